"""What a detector said about the pictures of a split: gathered image by image, merged, and as COCO results."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.files import write_file

ImagePrediction = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes_xyxy [n,4], scores [n], labels [n]

_NOTHING: ImagePrediction = (np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))


class Predictions:
    """Detections for each picture, keyed by the picture's position in its `DetectionIndex`.

    A picture counts once: a second prediction for it, which a sampler causes that pads the last batch, is dropped.
    """

    def __init__(self) -> None:
        self._images: dict[int, ImagePrediction] = {}

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, image_index: int) -> bool:
        return image_index in self._images

    def __getitem__(self, image_index: int) -> ImagePrediction:
        """(boxes_xyxy float32 `[n, 4]`, scores float32 `[n]`, labels int64 `[n]`) of a predicted picture."""
        return self._images[image_index]

    def add(self, image_index: int, boxes_xyxy: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> None:
        """Record one picture, also one without detections.

        Args:
            image_index: the picture's position in the index.
            boxes_xyxy: `[n, 4]` in pixels of the original picture.
            scores: `[n]` in 0..1.
            labels: `[n]` contiguous class ids.
        """
        if not len(boxes_xyxy) == len(scores) == len(labels):
            raise ValueError(f"{len(boxes_xyxy)} boxes, {len(scores)} scores and {len(labels)} labels for one picture")
        self._images.setdefault(
            int(image_index),
            (
                np.array(boxes_xyxy, np.float32).reshape(-1, 4),
                np.array(scores, np.float32),
                np.array(labels, np.int64),
            ),
        )

    @classmethod
    def merge(cls, shards: Iterable[Predictions]) -> Predictions:
        """One out of the shards of several processes; of a picture in two shards the first is kept."""
        merged = cls()
        for shard in shards:
            for image_index, prediction in shard._images.items():
                merged._images.setdefault(image_index, prediction)
        return merged

    def to_coco(self, index: DetectionIndex) -> list[dict[str, Any]]:
        """COCO results: image_id, category_id (both original), bbox (x, y, width, height in pixels) and score.

        Where an id could be taken for the number that another picture's name is, with file_name.
        """
        records: list[dict[str, Any]] = []
        by_number = _ids_by_number(index) if _is_numbered_by_name(index) else {}
        named = any(number != image_id for number, image_id in by_number.items())
        for image_index in sorted(self._images):
            boxes, scores, labels = self._images[image_index]
            image: dict[str, Any] = {"image_id": int(index.image_ids[image_index])}
            image |= {"file_name": index.name(image_index)} if named else {}
            rows = zip(boxes_to_xywh(boxes).tolist(), scores.tolist(), labels.tolist(), strict=True)
            records += [
                {**image, "category_id": int(index.category_ids[label]), "bbox": box, "score": score}
                for box, score, label in rows
            ]
        return records

    def write(self, path: str | Path, index: DetectionIndex) -> None:
        """Write COCO results as JSON; the numbers in the file are those that `evaluate` scores."""
        write_file(Path(path), json.dumps(self.to_coco(index), separators=(",", ":")))

    @classmethod
    def read(cls, path: str | Path, index: DetectionIndex) -> Predictions:
        """Read COCO results for the pictures of `index`, gzipped where the name ends in `.gz`; pictures that the file
        does not name have no detections.

        `image_id` is the picture's original id or, as some tools write it, its file name with or without the suffix, or
        the number that the name is (123 for 000123.jpg), where all results can be read so; where a result has a
        `file_name`, too, that decides.
        Raises `DetrofitError` if the file is no list of COCO results, names an image or a category that the index does
        not have, or where all ids could as well be numbers that are names of other pictures.
        """
        by_image: dict[Any, list[dict[str, Any]]] = {}
        records = _load_records(Path(path))
        _refuse_ambiguous(path, records, index)
        for record, image_id in zip(records, _image_ids(records, index), strict=True):
            by_image.setdefault(image_id, []).append(record)
        _refuse_unknown(path, "image_id", by_image, index.image_ids.tolist())
        contiguous = {int(category): label for label, category in enumerate(index.category_ids)}
        _refuse_unknown(path, "category_id", {record["category_id"] for record in records}, contiguous)
        predictions = cls()
        for position, image_id in enumerate(index.image_ids.tolist()):
            own = by_image.get(image_id, [])
            boxes = _from_xywh(np.array([record["bbox"] for record in own], np.float64).reshape(-1, 4))
            labels = np.array([contiguous[record["category_id"]] for record in own], np.int64)
            predictions.add(position, boxes, np.array([record["score"] for record in own]), labels)
        return predictions

    def of(self, image_index: int) -> ImagePrediction:
        """As `predictions[image_index]`, with empty arrays for a picture that was not predicted."""
        return self._images.get(image_index, _NOTHING)


def boxes_to_xywh(boxes_xyxy: np.ndarray) -> np.ndarray:
    """xyxy `[n, 4]` to COCO's x, y, width, height in float64, where the difference of two float32 numbers is exact."""
    corners = boxes_xyxy.astype(np.float64)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)


def _from_xywh(boxes_xywh: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)


def _image_ids(records: Sequence[dict[str, Any]], index: DetectionIndex) -> list[Any]:
    """The original id of each result's picture; what names no picture stays as it is."""
    ids = _ids_by_any_name(index)
    given = [record["file_name"] if record.get("file_name") in ids else record["image_id"] for record in records]
    if not all(each in ids for each in given):
        numbers = _ids_by_number(index) | {name: number for name, number in ids.items() if isinstance(name, str)}
        if all(each in numbers for each in given):
            ids = numbers
    return [ids.get(each, each) for each in given]


def _refuse_ambiguous(path: str | Path, records: Sequence[dict[str, Any]], index: DetectionIndex) -> None:
    """DetrofitError where every id is one of the index and also the name of a picture, of another one at least once.

    Data in YOLO's and VOC's form have no ids, and get 1, 2, 3 by name; other programs number their pictures otherwise.
    """
    if not _is_numbered_by_name(index):  # the ids are the data's own
        return
    ids, by_number, known = set(index.image_ids.tolist()), _ids_by_number(index), _ids_by_any_name(index)
    given = {record["image_id"] for record in records if record.get("file_name") not in known}
    if given and given <= ids and given <= by_number.keys() and any(by_number[each] != each for each in given):
        one = next(each for each in sorted(given) if by_number[each] != each)
        raise DetrofitError(
            f"{path} does not say whether image_id {one} is the picture '{one}' or the one of that place in the list; "
            "give each result a file_name, too"
        )


def _is_numbered_by_name(index: DetectionIndex) -> bool:
    names = index.names()
    return index.image_ids.tolist() == list(range(1, len(names) + 1)) and names == sorted(names)


def _ids_by_any_name(index: DetectionIndex) -> dict[Any, int]:
    """Original ids by themselves and by names of the picture; a name that two pictures share stands for neither."""
    ids = index.image_ids.tolist()
    names = [Path(name) for name in index.names()]
    found: dict[Any, int] = {}
    for form in ([str(name) for name in names], [name.name for name in names], [name.stem for name in names]):
        counts = Counter(form)
        found |= {name: number for name, number in zip(form, ids) if counts[name] == 1 and name not in found}
    return found | {number: number for number in ids}


def _ids_by_number(index: DetectionIndex) -> dict[Any, int]:
    """Original ids by the number that a picture's name is; one that two names are stands for neither."""
    stems = [Path(name).stem for name in index.names()]
    named = [(int(stem), number) for stem, number in zip(stems, index.image_ids.tolist()) if stem.isdecimal()]
    counts = Counter(stem for stem, _ in named)
    return {stem: number for stem, number in named if counts[stem] == 1}


def _load_records(path: Path) -> list[dict[str, Any]]:
    try:
        content = path.read_bytes()
        records = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    except FileNotFoundError as error:
        raise DetrofitError(f"there are no predictions at {path}; check the path") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DetrofitError(f"{path} cannot be read as JSON; give COCO results, as `detrofit val` writes") from error
    needed = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(records, list) or not all(isinstance(each, dict) and needed <= set(each) for each in records):
        raise DetrofitError(f"{path} is no list of COCO results (image_id, category_id, bbox, score)")
    for place, record in enumerate(records):
        if not _is_result(record):
            raise DetrofitError(
                f"{path}: result {place} needs a bbox of four finite numbers (x, y, width, height), a finite score, "
                "and numbers or names as ids"
            )
    return records


def _is_result(record: Mapping[str, Any]) -> bool:
    """Whether a detection can be made of its values."""
    box, names = record["bbox"], (record["image_id"], record["category_id"], record.get("file_name"))
    numbers = [*box, record["score"]] if isinstance(box, list) else []
    finite = all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers)
    return len(numbers) == 5 and finite and all(isinstance(name, (int, float, str, type(None))) for name in names)


def _refuse_unknown(path: str | Path, key: str, given: Iterable[int], known: Iterable[int]) -> None:
    unknown = sorted(set(given) - set(known), key=str)
    if unknown:
        raise DetrofitError(f"{path}: {key} {unknown[0]} is not in the data; give the predictions of this very split")
