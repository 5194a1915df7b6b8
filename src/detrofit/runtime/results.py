"""What was found in one picture, and the forms that others read it in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detrofit.drawing import colour_of, draw_boxes
from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.pictures import PictureSource, decode_picture

if TYPE_CHECKING:
    import supervision

_NAMES_SHOWN = 3  # detections that the short form lists


@dataclass(frozen=True, eq=False)
class Detections:
    """The n detections of one picture, best score first.

    Attributes:
        boxes_xyxy: float32 `[n, 4]` in pixels of the original picture, inside it.
        scores: float32 `[n]` in 0..1.
        labels: int64 `[n]`, contiguous class ids.
        class_names: the name of each class id.
        size: height and width of the original picture in pixels.
        source: where the picture came from: a path, or a made-up name for one in memory.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    size: tuple[int, int]
    source: str = ""

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        shown = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)][:_NAMES_SHOWN]
        if len(self) > _NAMES_SHOWN:
            shown.append(f"and {len(self) - _NAMES_SHOWN} more")
        height, width = self.size
        of = f" in {self.source}" if self.source else ""
        return f"<Detections: {', '.join(shown) or 'nothing'}{of} ({width} x {height})>"

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels]

    def filter(self, threshold: float) -> Detections:
        """Those whose score is `threshold` or more."""
        kept = self.scores >= threshold
        return replace(self, boxes_xyxy=self.boxes_xyxy[kept], scores=self.scores[kept], labels=self.labels[kept])

    def plot(self, image: PictureSource) -> Image.Image:
        """The picture with the boxes on it, the best on top; `image` is the picture that was given to the detector."""
        worst_first = np.arange(len(self))[::-1]
        names = self.names
        captions = [f"{names[i]} {self.scores[i]:.2f}" for i in worst_first]
        colours = [colour_of(int(label)) for label in self.labels[worst_first]]
        return draw_boxes(decode_picture(image), self.boxes_xyxy[worst_first], captions, colours)

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections`, class names under `data["class_name"]`."""
        try:
            import supervision
        except ModuleNotFoundError as error:
            raise DetrofitError(
                "to_supervision() needs 'supervision', which is not installed: pip install supervision"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes_xyxy.copy(),
            confidence=self.scores.copy(),
            class_id=self.labels.astype(int),
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def to_coco(self, image_id: int, category_ids: Sequence[int]) -> list[dict[str, Any]]:
        """COCO results: bbox as x, y, width, height in pixels; `category_ids` gives the id of each class."""
        boxes = self.boxes_xyxy.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        rows = zip(self.labels.tolist(), boxes.tolist(), self.scores.tolist(), strict=True)
        return [
            {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": box, "score": score}
            for label, box, score in rows
        ]

    def to_yolo_txt(self) -> str:
        """YOLO lines `class centre_x centre_y width height score`, lengths as shares of the picture's."""
        height, width = self.size
        x1, y1, x2, y2 = self.boxes_xyxy.astype(np.float64).T / np.array([[width], [height], [width], [height]])
        columns = zip(self.labels, (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, self.scores, strict=True)
        return "".join(f"{label} {x:.6f} {y:.6f} {w:.6f} {h:.6f} {score:.6f}\n" for label, x, y, w, h, score in columns)

    def to_rows(self) -> list[dict[str, Any]]:
        """A row a detection, for tables: source, label, name, score and the corners in pixels."""
        corners = np.round(self.boxes_xyxy.astype(np.float64), 2).tolist()
        columns = zip(self.labels.tolist(), self.names, self.scores.tolist(), corners, strict=True)
        return [
            {"source": self.source, "label": label, "name": name, "score": round(score, 6)}
            | dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))
            for label, name, score, box in columns
        ]

    def save(self, path: str | Path) -> None:
        """Write the rows as .csv or .json, or YOLO lines as .txt; the suffix chooses."""
        path = Path(path)
        writers = {".csv": self._to_csv, ".json": self._to_json, ".txt": self.to_yolo_txt}
        if path.suffix.lower() not in writers:
            raise DetrofitError(
                f"cannot save detections as '{path.name}'; give .csv, .json or .txt (a picture: plot(image).save(...))"
            )
        write_file(path, writers[path.suffix.lower()]())

    def _to_csv(self) -> str:
        text = io.StringIO(newline="")
        columns = ("source", "label", "name", "score", "x1", "y1", "x2", "y2")
        writer = csv.DictWriter(text, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_rows())
        return text.getvalue()

    def _to_json(self) -> str:
        height, width = self.size
        content = {"source": self.source, "width": width, "height": height, "detections": self.to_rows()}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
