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
from detrofit.files import atomic_write, write_file
from detrofit.pictures import PictureSource, decode_picture

if TYPE_CHECKING:
    import supervision

COLUMNS = ("source", "frame", "seconds", "label", "name", "score", "x1", "y1", "x2", "y2")  # of a row
PLOTS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}  # what a plot is saved as
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
        source: where the picture came from: a path, an address, or a made-up name for one in memory.
        source_index: position of the source among those that were given.
        frame: number of the frame in its video, from 0; None for a picture.
        seconds: time of the frame in its video; None where there is none.
        picture: what was looked into, for `plot`: the path, or what was given; the pixels of a frame.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    size: tuple[int, int]
    source: str = ""
    source_index: int = 0
    frame: int | None = None
    seconds: float | None = None
    picture: PictureSource | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        shown = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores, strict=True)][:_NAMES_SHOWN]
        if len(self) > _NAMES_SHOWN:
            shown.append(f"and {len(self) - _NAMES_SHOWN} more")
        height, width = self.size
        frame = "" if self.frame is None else f", frame {self.frame}"
        of = f" in {self.source}{frame}" if self.source else ""
        return f"<Detections: {', '.join(shown) or 'nothing'}{of} ({width} x {height})>"

    @property
    def names(self) -> list[str]:
        """The class name of each detection."""
        return [self.class_names[label] for label in self.labels]

    def filter(self, threshold: float) -> Detections:
        """Those whose score is `threshold` or more."""
        return self._kept(self.scores >= threshold)

    def without(self, labels: Sequence[int]) -> Detections:
        """Those of other classes than these, which are given by contiguous number."""
        return self._kept(~np.isin(self.labels, labels))

    def _kept(self, kept: np.ndarray) -> Detections:
        return replace(self, boxes_xyxy=self.boxes_xyxy[kept], scores=self.scores[kept], labels=self.labels[kept])

    def scaled_to(self, size: tuple[int, int]) -> Detections:
        """The same objects in the same picture at another size (height, width)."""
        (height, width), (new_height, new_width) = self.size, size
        factors = np.array([new_width / width, new_height / height] * 2)
        return replace(self, boxes_xyxy=(self.boxes_xyxy * factors).astype(np.float32), size=size)

    def plot(self, image: PictureSource | None = None) -> Image.Image:
        """The picture with the boxes on it, the best on top; `image` takes the place of `picture`."""
        image = self.picture if image is None else image
        if image is None:
            raise DetrofitError("these detections do not know their picture; give it: plot(image)")
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
        """A row a detection, for tables: its COLUMNS, corners in pixels; frame and seconds are None for a picture."""
        corners = np.round(self.boxes_xyxy.astype(np.float64), 2).tolist()
        seconds = None if self.seconds is None else round(self.seconds, 3)
        columns = zip(self.labels.tolist(), self.names, self.scores.tolist(), corners, strict=True)
        return [
            dict(zip(COLUMNS, (self.source, self.frame, seconds, label, name, round(score, 6), *box), strict=True))
            for label, name, score, box in columns
        ]

    def save(self, path: str | Path) -> None:
        """Write rows as .csv or .json, YOLO lines as .txt, or the plot as .jpg, .png or .webp; the suffix chooses."""
        path = Path(path)
        texts = {".csv": self._to_csv, ".json": self._to_json, ".txt": self.to_yolo_txt}
        suffix = path.suffix.lower()
        if suffix in texts:
            write_file(path, texts[suffix]())
        elif suffix in PLOTS:
            plotted = self.plot()
            with atomic_write(path) as temporary:
                plotted.save(temporary, PLOTS[suffix])
        else:
            known = ", ".join((*texts, *PLOTS))
            raise DetrofitError(f"cannot save detections as '{path.name}'; the known endings are {known}")

    def _to_csv(self) -> str:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.to_rows())
        return text.getvalue()

    def _to_json(self) -> str:
        height, width = self.size
        content = {"source": self.source, "width": width, "height": height, "detections": self.to_rows()}
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
