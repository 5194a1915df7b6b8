"""Ultralytics YOLO form: a data.yaml, folders or lists of pictures, and a text file of normalised boxes for each."""

from __future__ import annotations

import codecs
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.data.cache import digest_of_files
from detrofit.data.index import pack_names
from detrofit.data.pictures import (
    READING_THREADS,
    folder_with_most,
    is_picture,
    list_files,
    list_pictures,
    portable_name,
    read_lines,
    read_sizes,
)
from detrofit.data.reading import Problem, Reading
from detrofit.errors import DetrofitError

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
LARGEST_FRACTION = 1.5  # a centre or side beyond this many picture sides is in pixels by mistake, not over the edge
NO_LABELS = ("classes.txt", "labels.txt")  # text files that labelling tools leave beside the labels
LONGEST_NUMBER = 40  # characters; whatever is longer is no number, and would make the array of texts enormous


class YoloReader:
    """Reads the splits that a `data.yaml` names."""

    kind = "yolo"

    def __init__(self, source: Path, content: dict[Any, Any]) -> None:
        self.source = source
        self.names = _class_names(source, content)
        self.has_keypoints = "kpt_shape" in content
        self.declared_count = content.get("nc")
        self.base = _base_folder(source, content)
        self.absent: dict[str, str] = {}
        self.places: dict[str, list[Path]] = {}
        for split, keys in SPLIT_KEYS.items():
            value = next((content[key] for key in keys if content.get(key)), None)
            if value is not None:
                self._locate(split, value)
        self.splits = tuple(self.places)
        self._pictures: dict[str, list[str]] = {}

    def _locate(self, split: str, value: object) -> None:
        stated = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in stated):
            raise DetrofitError(f"'{split}' in {self.source} should be a folder, a list of folders, or a .txt file")
        places = [_resolve(self.base, str(each)) for each in stated]
        missing = [str(place) for place in places if not place.exists()]
        if missing:
            self.absent[split] = missing[0]
        else:
            self.places[split] = places

    def categories(self, read: Callable[[str], Reading]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        return tuple(self.names), tuple(self.names.values())

    def image_root(self, split: str) -> str:
        folders = [str(place if place.is_dir() else place.parent) for place in self.places[split]]
        paths = self._paths(split)
        inside = all(path.startswith(folders[0].rstrip(os.sep) + os.sep) for path in paths)
        if len(folders) == 1 and (inside or not paths):
            return folders[0]
        try:
            return os.path.commonpath([os.path.dirname(path) for path in paths])
        except ValueError:  # different drives
            return ""

    def fingerprint(self, split: str) -> str:
        paths = self._paths(split)
        labels = [label_path(path) for path in paths]
        return digest_of_files([*paths, *labels], repr(self.names), str(self.has_keypoints))

    def read(self, split: str) -> Reading:
        paths = self._paths(split)
        sizes = read_sizes(paths)
        table, problems = read_labels([label_path(path) for path in paths], self.has_keypoints)
        image = table[:, 0].astype(np.int64)
        scale = np.tile(sizes[image], 2).astype(np.float64)
        root = self.image_root(split)
        name_bytes, name_offsets = pack_names(os.path.relpath(path, root) if root else path for path in paths)
        return Reading(
            root=root,
            name_bytes=name_bytes,
            name_offsets=name_offsets,
            image_ids=np.arange(1, len(paths) + 1, dtype=np.int64),
            widths=sizes[:, 0],
            heights=sizes[:, 1],
            stated_sizes=np.zeros((len(paths), 2), np.int32),
            box_image=image,
            boxes_xyxy=_to_corners(table[:, 3:]) * scale,
            box_category=table[:, 2].astype(np.int64),
            crowd=np.zeros(len(table), bool),
            areas=np.full(len(table), np.nan, np.float32),
            category_ids=np.array(list(self.names), np.int64),
            category_names=tuple(self.names.values()),
            problems=tuple(problems),
        )

    def strays(self) -> list[Problem]:
        problems = []
        known: set[str] = set()
        folders: set[str] = set()
        for split, places in self.places.items():
            labels = [label_path(path) for path in self._paths(split)]
            problems += [
                Problem("image-without-label", path, "")
                for path, label in zip(self._paths(split), labels, strict=True)
                if not os.path.exists(label)
            ]
            problems += [Problem("shared-label", label, "") for label, times in Counter(labels).items() if times > 1]
            known.update(labels)
            stated = (os.path.dirname(label_path(str(place / "any"))) for place in places if place.is_dir())
            folders.update(folder for folder in stated if os.path.isdir(folder))
        found = (os.path.join(folder, name) for folder in sorted(folders) for name in list_files(folder))
        lost = (path for path in found if path.endswith(".txt") and path not in known)
        problems += [
            Problem("label-without-image", path, "") for path in lost if os.path.basename(path) not in NO_LABELS
        ]
        if isinstance(self.declared_count, int) and self.declared_count != len(self.names):
            detail = f"nc is {self.declared_count}, but {len(self.names)} names are given"
            problems.append(Problem("class-count-mismatch", str(self.source), detail))
        return problems

    def _paths(self, split: str) -> list[str]:
        if split not in self._pictures:
            found = [path for place in self.places[split] for path in _pictures_at(place, self.base)]
            self._pictures[split] = list(dict.fromkeys(found))
        return self._pictures[split]


def _class_names(source: Path, content: dict[Any, Any]) -> dict[int, str]:
    names = content.get("names")
    numbered = dict(enumerate(names)) if isinstance(names, list) else names
    if not numbered:
        raise DetrofitError(f"{source} gives no class names: add 'names' with one name for each class number")
    try:
        named = {int(number): name for number, name in numbered.items()}
    except (AttributeError, TypeError, ValueError):
        raise DetrofitError(f"'names' in {source} should list the class names or map numbers to them") from None
    for name in named.values():
        if not isinstance(name, (str, int, float)):
            raise DetrofitError(f"'names' in {source} should hold plain names, not a {type(name).__name__}")
    return {number: str(named[number]) for number in sorted(named)}


def _base_folder(source: Path, content: dict[Any, Any]) -> Path:
    stated = content.get("path")
    if not stated:
        return source.parent
    beside = source.parent / str(stated)
    if beside.exists():
        return beside
    return Path(str(stated)) if Path(str(stated)).exists() else source.parent


def _resolve(base: Path, stated: str) -> Path:
    stated = portable_name(stated, str(base))
    place = base / stated
    if not place.exists() and stated.startswith("../"):  # Roboflow writes paths as seen from one folder further down
        return base / stated[3:]
    return place


def _pictures_at(place: Path, base: Path) -> list[str]:
    if place.is_dir():
        return [str(place / name) for name in list_pictures(str(place))]
    if is_picture(place.name):
        return [str(place)]
    lines = read_lines(place, "picture path")
    folder = folder_with_most((place.parent, base), lines)
    return [os.path.normpath(os.path.join(folder, portable_name(line, folder))) for line in lines]


def label_path(picture: str) -> str:
    """Where a picture's labels are: the last folder `images` becomes `labels`, the ending `.txt`."""
    stem = os.path.splitext(picture)[0].replace(os.sep, "/")
    head, found, tail = stem.rpartition("/images/")
    return (f"{head}/labels/{tail}" if found else stem) + ".txt"


def read_labels(paths: list[str], has_keypoints: bool = False) -> tuple[np.ndarray, list[Problem]]:
    """All boxes of label files as float64 `[M,7]`: file position, line, class, then cx, cy, w, h in 0..1.

    Files that do not exist give no boxes. Polygons (class and three or more points) become the box around them;
    with `has_keypoints` whatever follows the box is passed over. Lines that make no sense become problems.
    """
    with ThreadPoolExecutor(READING_THREADS) as pool:
        contents = list(pool.map(_read_text, paths, chunksize=64))
    plain: list[tuple[int, int, list[bytes]]] = []
    rows: list[tuple[float, ...]] = []
    problems: list[Problem] = []
    for position, content in enumerate(contents):
        if content is None:
            continue
        for number, line in enumerate(content.splitlines(), 1):
            fields = line.split()
            box_only = len(fields) == 5 or (has_keypoints and len(fields) > 5)
            if box_only and max(map(len, fields[:5])) <= LONGEST_NUMBER:
                plain.append((position, number, fields[:5]))
            elif fields:
                _read_polygon(fields, (position, number), paths[position], rows, problems)
    table = np.concatenate([_read_plain(plain, paths, problems), np.array(rows, np.float64).reshape(-1, 7)])
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    return _refuse_pixels(table, paths, problems), problems


def _read_text(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read().removeprefix(codecs.BOM_UTF8)
    except OSError:
        return None


def _read_plain(plain: list[tuple[int, int, list[bytes]]], paths: list[str], problems: list[Problem]) -> np.ndarray:
    try:
        numbers = np.array([fields for _, _, fields in plain], dtype=np.bytes_).astype(np.float64).reshape(-1, 5)
    except ValueError:  # some field is no number: find out which, one line at a time
        numbers = np.array([_numbers(fields) for _, _, fields in plain], np.float64).reshape(-1, 5)
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(numbers[:, 0]) & (numbers[:, 0] == np.floor(numbers[:, 0])) & (abs(numbers[:, 0]) < 2**31)
    for row in np.flatnonzero(~sound).tolist():
        position, number, fields = plain[row]
        shown = b" ".join(fields).decode(errors="replace")[:60]
        problems.append(Problem("malformed-label", f"{paths[position]} line {number}", f"'{shown}'"))
    places = np.array([(position, number) for position, number, _ in plain], np.float64).reshape(-1, 2)
    return np.concatenate([places, numbers], axis=1)[sound]


def _numbers(fields: list[bytes]) -> list[float]:
    try:
        return [float(field) for field in fields]
    except ValueError:
        return [np.nan] * len(fields)


def _read_polygon(
    fields: list[bytes], place: tuple[int, int], path: str, rows: list[tuple[float, ...]], problems: list[Problem]
) -> None:
    numbers = np.array(_numbers(fields))
    if len(fields) < 7 or len(fields) % 2 == 0 or not np.isfinite(numbers[0]) or numbers[0] != np.floor(numbers[0]):
        detail = f"{len(fields)} fields where class cx cy w h are expected"
        problems.append(Problem("malformed-label", f"{path} line {place[1]}", detail))
        return
    points = numbers[1:].reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    rows.append((*place, numbers[0], *((low + high) / 2), *(high - low)))


def _refuse_pixels(table: np.ndarray, paths: list[str], problems: list[Problem]) -> np.ndarray:
    too_large = (np.nan_to_num(abs(table[:, 3:])) > LARGEST_FRACTION).any(axis=1)
    for row in table[too_large]:
        shown = " ".join(f"{number:g}" for number in row[3:])
        problems.append(Problem("not-normalised", f"{paths[int(row[0])]} line {int(row[1])}", f"box {shown}"))
    return table[~too_large]


def _to_corners(boxes: np.ndarray) -> np.ndarray:
    half = boxes[:, 2:] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
