"""COCO form: one JSON for each split, with pictures, categories and annotations, and a folder of pictures."""

from __future__ import annotations

import gc
import itertools
import json
import mmap
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.data.cache import digest_of_bytes
from detrofit.data.index import pack_names
from detrofit.data.pictures import PROBED_NAMES, folder_with_most, list_pictures, portable_name, read_sizes
from detrofit.data.reading import Problem, Reading
from detrofit.errors import DetrofitError, nearest

SPLITS = ("train", "val", "test")
FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


@dataclass(frozen=True)
class CocoSplit:
    """Where a split's JSON and pictures are; without `images` the folder is looked for beside the JSON."""

    annotations: Path
    images: Path | None = None


class CocoReader:
    """Reads COCO JSON files. Categories are those of the first split (train, if there), sorted by id."""

    kind = "coco"

    def __init__(self, source: Path, places: dict[str, CocoSplit]) -> None:
        self.source = source
        self.places = {split: places[split] for split in SPLITS if split in places}
        self.absent = {
            split: str(place.annotations) for split, place in self.places.items() if not place.annotations.is_file()
        }
        self.splits = tuple(split for split in self.places if split not in self.absent)
        self._roots: dict[str, str] = {}

    def categories(self, read: Callable[[str], Reading]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        reading = read(self.splits[0])
        return tuple(reading.category_ids.tolist()), reading.category_names

    def image_root(self, split: str) -> str:
        if split not in self._roots:
            place = self.places[split]
            if place.images is not None and not place.images.is_dir():
                raise DetrofitError(
                    f"the pictures of '{split}' in {self.source} should be in {place.images}: no such folder"
                )
            self._roots[split] = str(place.images or _find_images(place.annotations, split))
        return self._roots[split]

    def fingerprint(self, split: str) -> str:
        return digest_of_bytes(self.places[split].annotations.read_bytes())

    def strays(self) -> list[Problem]:
        listed: dict[str, set[str]] = {}
        for split in self.splits:
            root = self.image_root(split)
            names = (str(entry.get("file_name")) for entry in load_json(self.places[split].annotations)["images"])
            listed.setdefault(root, set()).update(os.path.normpath(portable_name(name, root)) for name in names)
        return [
            Problem("unlisted-image", os.path.join(root, name), "")
            for root, names in listed.items()
            for name in list_pictures(root)
            if os.path.normpath(name) not in names and not _below_another(os.path.join(root, name), root, listed)
        ]

    def read(self, split: str) -> Reading:
        path = self.places[split].annotations
        collecting = gc.isenabled()
        gc.disable()  # a million small dictionaries that nothing links back to: collecting them only costs time
        try:
            return read_document(load_json(path), path, self.image_root(split))
        finally:
            if collecting:
                gc.enable()


def _below_another(path: str, root: str, roots: Iterable[str]) -> bool:
    return any(len(other) > len(root) and path.startswith(other + os.sep) for other in roots)


def single_coco_split(path: Path) -> dict[str, CocoSplit]:
    """The one split of a JSON given by itself: train, val or test if its name or folder says so, else train."""
    return {_split_named(path) or "train": CocoSplit(path)}


def mapped_coco_splits(path: Path, content: dict[Any, Any]) -> dict[str, CocoSplit]:
    """The splits of a YAML that maps each to `{annotations: FILE, images: FOLDER}`, relative to the YAML."""
    places = {}
    base = path.parent / str(content.get("path") or "")
    for split, value in content.items():
        if split == "path":
            continue
        if split not in SPLITS:
            raise DetrofitError(f"{path} has an unknown split '{split}'{nearest(str(split), SPLITS)}")
        if not isinstance(value, dict) or not value.get("annotations"):
            raise DetrofitError(f"'{split}' in {path} should map annotations to a JSON and images to a folder")
        images = value.get("images")
        places[split] = CocoSplit(base / str(value["annotations"]), base / str(images) if images else None)
    return places


def find_coco_splits(folder: Path) -> dict[str, CocoSplit]:
    """The splits in a folder: `annotations/*.json`, JSON files beside the pictures, or one folder for each split."""
    for pattern in ("annotations/*.json", "*.json", "*/_annotations.coco.json"):
        found: dict[str, CocoSplit] = {}
        for path in sorted(folder.glob(pattern), key=_prefer_instances):
            split = _split_named(path)
            if split is not None and split not in found:
                found[split] = CocoSplit(path)
        if found:
            return found
    return {}


def _prefer_instances(path: Path) -> tuple[bool, str]:
    # COCO itself has captions_train2017.json and person_keypoints_train2017.json beside instances_train2017.json.
    return not path.name.startswith("instances"), path.name


def _split_named(path: Path) -> str | None:
    for name in (path.stem.lower(), path.parent.name.lower()):
        for word in re.findall("[a-z]+", name):  # train of instances_train2017, but not of pretrained_val
            for split in SPLITS:
                if word.startswith(split):
                    return split
    return None


def _find_images(annotations: Path, split: str) -> Path:
    """Of the folders where people put pictures the one that holds most of a JSON's first ones; if none does, the first
    that exists."""
    base = annotations.parent.parent if annotations.parent.name == "annotations" else annotations.parent
    named = annotations.stem.rpartition("_")[2]  # train2017 of instances_train2017
    places = [base / "images" / named, base / "images" / split, base / "images", base / named]
    places += [base / f"{split}2017", base / split, base, annotations.parent]
    places = [place for place in dict.fromkeys(places) if place.is_dir()]
    return Path(folder_with_most(places, _first_file_names(annotations)))


def _first_file_names(annotations: Path) -> list[str]:
    """The first values of `file_name` in a JSON, found without parsing it, wherever its pictures stand in it."""
    with open(annotations, "rb") as file:
        if not os.fstat(file.fileno()).st_size:  # which cannot be mapped
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = [match[1] for match in itertools.islice(FILE_NAME.finditer(content), PROBED_NAMES)]
    try:
        return [str(json.loads(text)) for text in found]
    except ValueError:
        return []


def load_json(path: Path) -> dict[str, Any]:
    """A COCO JSON as it is, with its three lists checked to be lists."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DetrofitError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise DetrofitError(f"{path} is no COCO data set: it has no list 'images'")
    for key in ("annotations", "categories"):
        if not isinstance(document.setdefault(key, []), list):
            raise DetrofitError(f"{path} is no COCO data set: '{key}' is not a list")
    return document


def read_document(document: dict[str, Any], path: Path, root: str) -> Reading:
    """A COCO JSON as arrays. Entries that make no sense become problems instead."""
    problems: list[Problem] = []
    categories = _read_categories(document["categories"], path)
    names, image_ids, sizes = _read_images(document["images"], path, problems)
    names = [portable_name(name, root) for name in names]
    stated = sizes.copy()
    reusable = _fill_sizes(names, sizes, root)
    annotations = _read_annotations(document["annotations"], path, problems)
    image, known = _positions(annotations.image_ids, image_ids)
    for lost, number in zip(*np.unique(annotations.image_ids[~known], return_counts=True), strict=True):
        problems.append(Problem("orphan-annotation", f"{path} image_id {lost}", "no such picture", int(number)))
    name_bytes, name_offsets = pack_names(names)
    corners = annotations.boxes_xywh[known]
    corners[:, 2:] += corners[:, :2]
    return Reading(
        root=root,
        name_bytes=name_bytes,
        name_offsets=name_offsets,
        image_ids=image_ids,
        stated_sizes=stated,
        widths=sizes[:, 0],
        heights=sizes[:, 1],
        box_image=image[known],
        boxes_xyxy=corners,
        box_category=annotations.category_ids[known],
        crowd=annotations.crowd[known],
        areas=annotations.areas[known],
        category_ids=np.array(list(categories), np.int64),
        category_names=tuple(categories.values()),
        problems=tuple(problems),
        reusable=reusable,
    )


def _read_categories(entries: list[Any], path: Path) -> dict[int, str]:
    try:
        categories = {int(entry["id"]): str(entry["name"]) for entry in entries}
    except (KeyError, TypeError, ValueError):
        raise DetrofitError(f"the categories in {path} should each have an integer 'id' and a 'name'") from None
    if len(categories) < len(entries):
        raise DetrofitError(f"two categories in {path} share an id")
    return dict(sorted(categories.items()))


def _read_images(entries: list[Any], path: Path, problems: list[Problem]) -> tuple[list[str], np.ndarray, np.ndarray]:
    try:
        names = [str(entry["file_name"]) for entry in entries]
        ids = np.array([int(entry["id"]) for entry in entries], np.int64)
        sizes = [(int(entry.get("width") or 0), int(entry.get("height") or 0)) for entry in entries]
    except (KeyError, TypeError, ValueError, OverflowError):
        raise DetrofitError(f"the images in {path} should each have an integer 'id' and a 'file_name'") from None
    first = np.sort(np.unique(ids, return_index=True)[1])
    for position in np.setdiff1d(np.arange(len(ids)), first).tolist():
        problems.append(Problem("duplicate-image-id", names[position], f"id {ids[position]} is already taken"))
    table = np.array(sizes, np.int64).reshape(-1, 2).clip(0, np.iinfo(np.int32).max).astype(np.int32)
    return [names[position] for position in first.tolist()], ids[first], table[first]


def _fill_sizes(names: list[str], sizes: np.ndarray, root: str) -> bool:
    """Read the sizes that a JSON leaves out from the pictures; True where nothing had to be read."""
    lacking = np.flatnonzero((sizes <= 0).any(axis=1))
    sizes[lacking] = read_sizes([os.path.join(root, names[position]) for position in lacking.tolist()])
    return not len(lacking)


@dataclass
class _Annotations:
    image_ids: np.ndarray
    category_ids: np.ndarray
    boxes_xywh: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray


def _read_annotations(entries: list[Any], path: Path, problems: list[Problem]) -> _Annotations:
    try:
        return _annotation_arrays(entries)
    except (KeyError, TypeError, ValueError, OverflowError):
        sound = []
        for number, entry in enumerate(entries):
            fault = _annotation_fault(entry)
            if fault:
                problems.append(Problem("malformed-label", f"{path} annotation {_label_of(entry, number)}", fault))
            else:
                sound.append(entry)
        return _annotation_arrays(sound)


def _annotation_arrays(entries: list[Any]) -> _Annotations:
    count = len(entries)
    boxes = np.array([entry["bbox"] for entry in entries], np.float64)
    if count and boxes.shape != (count, 4):
        raise ValueError("a bbox has not four numbers")
    areas = [entry.get("area") for entry in entries]
    return _Annotations(
        np.fromiter((int(entry["image_id"]) for entry in entries), np.int64, count),
        np.fromiter((int(entry["category_id"]) for entry in entries), np.int64, count),
        boxes.reshape(-1, 4),
        np.fromiter((bool(entry.get("iscrowd")) for entry in entries), bool, count),
        np.array(areas, np.float32),  # None becomes NaN
    )


def _annotation_fault(entry: Any) -> str:
    try:
        _annotation_arrays([entry])
    except KeyError as error:
        return f"no {error}"
    except (TypeError, ValueError, OverflowError):
        return "image_id and category_id should be integers, bbox four numbers, area a number"
    return ""


def _label_of(entry: Any, number: int) -> str:
    return f"id {entry['id']}" if isinstance(entry, dict) and "id" in entry else f"number {number + 1}"


def _positions(wanted: np.ndarray, image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position of each wanted id in `image_ids` (unspecified where absent), and whether it is there."""
    if not len(image_ids):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), bool)
    order = np.argsort(image_ids)
    place = np.minimum(np.searchsorted(image_ids, wanted, sorter=order), len(image_ids) - 1)
    return order[place], image_ids[order[place]] == wanted
