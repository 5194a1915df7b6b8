"""What a file form says, before anything is judged; and the step from there to a clean index."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass

import numpy as np

from detrofit.data.index import DetectionIndex, pack_names, unpack_names


@dataclass(frozen=True)
class Problem:
    """Something a reader could not use: a finding code, the file (and line) at fault, what is wrong, how often."""

    code: str
    where: str
    detail: str
    count: int = 1


@dataclass(frozen=True, eq=False)
class Reading:
    """One split as its files state it: N pictures, M boxes in any order, nothing clipped or left out yet."""

    root: str
    name_bytes: np.ndarray
    name_offsets: np.ndarray
    image_ids: np.ndarray  # int64 [N]
    widths: np.ndarray  # int32 [N], 0 where the picture could not be read
    heights: np.ndarray  # int32 [N]
    stated_sizes: np.ndarray  # int32 [N,2], width and height as the labels have them, 0 where they say nothing
    box_image: np.ndarray  # int64 [M], position of the picture
    boxes_xyxy: np.ndarray  # float64 [M,4], pixels
    box_category: np.ndarray  # int64 [M], original category id
    crowd: np.ndarray  # bool [M]
    areas: np.ndarray  # float32 [M], NaN where the form gives none
    category_ids: np.ndarray  # int64 [K]
    category_names: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    reusable: bool = True  # False: depends on files that the fingerprint does not cover, so it must not be cached

    def names(self) -> list[str]:
        """All file names, relative to `root`."""
        return unpack_names(self.name_bytes, self.name_offsets)


ARRAYS = (
    *("name_bytes", "name_offsets", "image_ids", "widths", "heights", "stated_sizes", "box_image"),
    *("boxes_xyxy", "box_category", "crowd", "areas", "category_ids"),
)


def to_arrays(reading: Reading) -> dict[str, np.ndarray]:
    """The reading as named arrays, for the cache; `root` stays out, for the folder may move."""
    text = {
        "category_names": list(reading.category_names),
        "problems": [astuple(problem) for problem in reading.problems],
    }
    arrays = {name: getattr(reading, name) for name in ARRAYS}
    return {**arrays, "text": np.frombuffer(json.dumps(text).encode(), np.uint8)}


def from_arrays(arrays: dict[str, np.ndarray], root: str) -> Reading:
    """The inverse of `to_arrays`; raises KeyError or ValueError on anything else."""
    text = json.loads(arrays["text"].tobytes())
    return Reading(
        root=root,
        category_names=tuple(text["category_names"]),
        problems=tuple(Problem(*each) for each in text["problems"]),
        **{name: arrays[name] for name in ARRAYS},  # type: ignore[arg-type]
    )


def count_other_sizes(reading: Reading) -> int:
    """How many pictures are of another size than their labels say, so that their boxes may be displaced."""
    sizes = np.stack([reading.widths, reading.heights], axis=1)
    known = (sizes > 0).all(axis=1) & (reading.stated_sizes > 0).all(axis=1)
    return int((known & (sizes != reading.stated_sizes).any(axis=1)).sum())


@dataclass(frozen=True, eq=False)
class BoxFaults:
    """Which boxes of a reading are at fault (bool `[M]` each), and all boxes clipped to their pictures."""

    clipped_boxes: np.ndarray  # float32 [M,4]
    lost_picture: np.ndarray  # its picture has no known size
    unknown_class: np.ndarray
    degenerate: np.ndarray  # not finite, or no width or height
    outside: np.ndarray  # nothing of it lies inside its picture
    clipped: np.ndarray  # reaches over the edge by more than a pixel

    @property
    def unusable(self) -> np.ndarray:
        return self.lost_picture | self.unknown_class | self.degenerate | self.outside


def contiguous_labels(box_category: np.ndarray, category_ids: tuple[int, ...]) -> np.ndarray:
    """int32 `[M]` positions of the original ids in `category_ids`, -1 where an id is not among them."""
    ids = np.asarray(category_ids, np.int64)
    if not len(ids):
        return np.full(len(box_category), -1, np.int32)
    order = np.argsort(ids)
    place = np.minimum(np.searchsorted(ids, box_category, sorter=order), len(ids) - 1)
    position = order[place]
    return np.where(ids[position] == box_category, position, -1).astype(np.int32)


def find_faults(reading: Reading, labels: np.ndarray) -> BoxFaults:
    """Judge every box of a reading; `labels` are its contiguous classes with -1 for unknown."""
    width = reading.widths[reading.box_image].astype(np.float64)
    height = reading.heights[reading.box_image].astype(np.float64)
    limit = np.stack([width, height, width, height], axis=1)
    boxes = reading.boxes_xyxy
    finite = np.isfinite(boxes).all(axis=1)
    safe = np.where(finite[:, None], boxes, 0)
    clipped = np.clip(safe, 0, limit).astype(np.float32)
    lost = (width <= 0) | (height <= 0)
    with np.errstate(over="ignore"):  # 1e300 becomes infinite, which is as far outside
        degenerate = ~finite | _no_area(safe.astype(np.float32))
    outside = ~degenerate & ~lost & _no_area(clipped)
    over = (np.abs(safe - np.clip(safe, 0, limit)) > 1).any(axis=1)
    unusable = lost | degenerate | outside
    return BoxFaults(clipped, lost, labels < 0, degenerate, outside, over & ~unusable)


def _no_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] <= boxes[:, 0]) | (boxes[:, 3] <= boxes[:, 1])


def build_index(
    reading: Reading, split: str, class_names: tuple[str, ...], category_ids: tuple[int, ...]
) -> DetectionIndex:
    """The clean index of a reading: usable boxes clipped and grouped by picture, pictures that can be opened."""
    labels = contiguous_labels(reading.box_category, category_ids)
    faults = find_faults(reading, labels)
    kept_images = np.flatnonzero((reading.widths > 0) & (reading.heights > 0))
    kept_boxes = np.flatnonzero(~faults.unusable)
    kept_boxes = kept_boxes[np.argsort(reading.box_image[kept_boxes], kind="stable")]
    boxes = faults.clipped_boxes[kept_boxes]
    areas = reading.areas[kept_boxes]
    own_areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    counts = np.bincount(reading.box_image[kept_boxes], minlength=len(reading.image_ids))[kept_images]
    name_bytes, name_offsets = _select_names(reading, kept_images)
    return DetectionIndex(
        split=split,
        class_names=class_names,
        category_ids=category_ids,
        root=reading.root,
        name_bytes=name_bytes,
        name_offsets=name_offsets,
        image_ids=reading.image_ids[kept_images],
        widths=reading.widths[kept_images],
        heights=reading.heights[kept_images],
        box_offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes_xyxy=boxes,
        labels=labels[kept_boxes],
        crowd=reading.crowd[kept_boxes],
        areas=np.where(np.isfinite(areas), areas, own_areas).astype(np.float32),
        left_out=_count_left_out(reading, faults, len(kept_images)),
    )


def _select_names(reading: Reading, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(kept) == len(reading.image_ids):
        return reading.name_bytes, reading.name_offsets
    names = reading.names()
    return pack_names(names[position] for position in kept.tolist())


# Codes of problems for which a reader drops a box or a line (it drops pictures by giving them no size).
DROPPED_BY_READER = ("malformed-label", "not-normalised", "orphan-annotation", "duplicate-image-id")


def _count_left_out(reading: Reading, faults: BoxFaults, kept_images: int) -> dict[str, int]:
    judged = ~faults.lost_picture
    counts = {
        "unreadable-image": len(reading.image_ids) - kept_images,
        "unknown-class": int((faults.unknown_class & judged).sum()),
        "degenerate-box": int((faults.degenerate & judged & ~faults.unknown_class).sum()),
        "outside-box": int((faults.outside & ~faults.unknown_class).sum()),
    }
    for code in DROPPED_BY_READER:
        counts[code] = sum(problem.count for problem in reading.problems if problem.code == code)
    return {code: count for code, count in counts.items() if count}
