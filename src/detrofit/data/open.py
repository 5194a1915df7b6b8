"""`open_dataset`: finds out which of the three forms a path holds, and opens it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import yaml

from detrofit.data import cache
from detrofit.data.coco import CocoReader, find_coco_splits, mapped_coco_splits, single_coco_split
from detrofit.data.index import DetectionIndex
from detrofit.data.reading import Problem, Reading, build_index, count_other_sizes, from_arrays, to_arrays
from detrofit.data.voc import VocReader
from detrofit.data.yolo import YoloReader
from detrofit.errors import DetrofitError, nearest

FORM_NAMES = {"coco": "COCO", "yolo": "YOLO", "voc": "Pascal VOC"}
LEFT_OUT_WORDS = {
    "unreadable-image": "unreadable or missing pictures",
    "unknown-class": "boxes of unknown classes",
    "degenerate-box": "boxes without area",
    "outside-box": "boxes outside their pictures",
    "malformed-label": "malformed labels",
    "not-normalised": "boxes not normalised to 0..1",
    "orphan-annotation": "boxes of unlisted pictures",
    "duplicate-image-id": "pictures with an id already taken",
}


class Reader(Protocol):
    """One file form: knows its splits and reads each; everything else is shared."""

    kind: str
    source: Path
    splits: tuple[str, ...]
    absent: dict[str, str]  # splits that are named but not there -> where they should be

    def categories(self, read: Callable[[str], Reading]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        """Original ids and names of all classes; `read` gives a split where its content decides."""

    def image_root(self, split: str) -> str:
        """The folder that the names of the split's pictures are relative to."""

    def fingerprint(self, split: str) -> str:
        """A digest of all that `read` depends on."""

    def read(self, split: str) -> Reading:
        """Read a split's files."""

    def strays(self) -> list[Problem]:
        """Pictures and label files that have no counterpart, or that no split lists."""


class Dataset:
    """A data set on disk in one of the three forms; splits are read when asked for, and cached by content."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.kind = reader.kind
        self.source = reader.source
        self.splits = reader.splits
        self._readings: dict[str, Reading] = {}
        self._indices: dict[str, DetectionIndex] = {}
        self._other_sizes: dict[str, int] = {}
        if not self.splits:
            places = "".join(f"; '{split}' should be {place}" for split, place in reader.absent.items())
            raise DetrofitError(f"no split of the data set {self.source} is there{places}")
        self.category_ids, self.class_names = reader.categories(self.reading)
        if not self.class_names:
            raise DetrofitError(f"the data set {self.source} names no class")

    def reading(self, split: str) -> Reading:
        """The split as its files state it, unjudged (for checks)."""
        if split not in self.splits:
            raise self._absent_split(split)
        if split not in self._readings:
            self._readings[split] = self._read_through_cache(split)
        return self._readings[split]

    def split(self, name: str) -> DetectionIndex:
        """The arrays of one split; DetrofitError names the splits there are if `name` is none of them."""
        if name not in self._indices:
            reading = self.reading(name)
            conflicts = self._conflicts(reading, name)
            if conflicts:
                raise DetrofitError(f"{self.source}: {conflicts[0]}; give all splits the same categories")
            self._indices[name] = build_index(reading, name, self.class_names, self.category_ids)
            self._other_sizes[name] = count_other_sizes(reading)
            self._readings.pop(name)  # the raw arrays are several times larger than the index
        return self._indices[name]

    @property
    def description(self) -> str:
        """One line: which form was found, how much is in each split, and what had to be left out."""
        indices = [self.split(name) for name in self.splits]
        sizes = ", ".join(f"{index.split} {len(index):,} pictures {len(index.labels):,} boxes" for index in indices)
        text = f"{FORM_NAMES[self.kind]} data set {self.source}: {len(self.class_names)} classes; {sizes}"
        counts = {code: sum(index.left_out.get(code, 0) for index in indices) for code in LEFT_OUT_WORDS}
        dropped = ", ".join(f"{counts[code]:,} {words}" for code, words in LEFT_OUT_WORDS.items() if counts[code])
        faults = [f"left out: {dropped}"] if dropped else []
        resized = sum(self._other_sizes.values())
        if resized:
            faults.append(f"{resized:,} pictures of another size than their labels say, so that boxes are displaced")
        return "; ".join([text, *faults]) + (" (see detrofit data check)" if faults else "")

    def category_conflicts(self) -> list[str]:
        """Categories that have another name in another split, each as a sentence."""
        return [conflict for split in self.splits for conflict in self._conflicts(self.reading(split), split)]

    def _conflicts(self, reading: Reading, split: str) -> list[str]:
        names = dict(zip(self.category_ids, self.class_names, strict=True))
        return [
            f"category {category_id} is '{names[category_id]}' in '{self.splits[0]}' but '{name}' in '{split}'"
            for category_id, name in zip(reading.category_ids.tolist(), reading.category_names, strict=True)
            if names.get(category_id, name) != name
        ]

    def _absent_split(self, split: str) -> DetrofitError:
        named = ", ".join(self.splits)
        if split in self.reader.absent:
            return DetrofitError(
                f"the split '{split}' of {self.source} should be {self.reader.absent[split]}, "
                f"which does not exist; there are: {named}"
            )
        hint = nearest(split, self.splits)
        return DetrofitError(f"the data set {self.source} has no split '{split}', only: {named}{hint}")

    def _read_through_cache(self, split: str) -> Reading:
        root = self.reader.image_root(split)
        key = f"{self.kind}-{self.reader.fingerprint(split)}"
        arrays = cache.load(key)
        if arrays is not None:
            try:
                return from_arrays(arrays, root)
            except (KeyError, TypeError, ValueError):
                pass  # written by another version: read the files again
        reading = self.reader.read(split)
        if reading.reusable:
            cache.store(key, to_arrays(reading))
        return reading


def open_dataset(source: str | Path) -> Dataset:
    """Open the data set at `source`, whichever form it has.

    `source` is an Ultralytics `data.yaml` or a folder with one; a COCO JSON, a folder with
    `annotations/*.json`, or a YAML that maps splits to `{annotations: FILE, images: FOLDER}`; or a Pascal VOC folder.
    Raises DetrofitError where it is none of these.
    """
    path = Path(source).expanduser().absolute()
    if not path.exists():
        raise DetrofitError(f"no data set at {path}: give a data.yaml, a COCO JSON, or a folder that holds a data set")
    return Dataset(_reader_of_folder(path) if path.is_dir() else _reader_of_file(path))


def _reader_of_file(path: Path) -> Reader:
    if path.suffix.lower() == ".json":
        return CocoReader(path, single_coco_split(path))
    if path.suffix.lower() in (".yaml", ".yml"):
        return _reader_of_yaml(path)
    raise DetrofitError(f"{path} is no data set: give a data.yaml, a COCO JSON, or a folder that holds a data set")


def _reader_of_yaml(path: Path) -> Reader:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date like 2024-13-45
        raise DetrofitError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DetrofitError(f"{path} is no data set: it should map train, val and names to values")
    if any(isinstance(value, dict) and "annotations" in value for value in content.values()):
        return CocoReader(path, mapped_coco_splits(path, content))
    return YoloReader(path, content)


def _reader_of_folder(folder: Path) -> Reader:
    entries = {entry.name for entry in folder.iterdir()}
    if {"Annotations", "JPEGImages"} <= entries:
        return VocReader(folder)
    if "data.yaml" in entries:
        return _reader_of_yaml(folder / "data.yaml")
    splits = find_coco_splits(folder)
    if splits:
        return CocoReader(folder, splits)
    yamls = sorted(folder / name for name in entries if name.lower().endswith((".yaml", ".yml")))
    if len(yamls) == 1:
        return _reader_of_yaml(yamls[0])
    raise DetrofitError(
        f"{folder} holds no data set that is understood: expected data.yaml (YOLO), annotations/*.json (COCO), "
        f"or Annotations and JPEGImages (Pascal VOC)"
    )
