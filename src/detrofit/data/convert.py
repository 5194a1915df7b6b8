"""`convert_dataset`: the same data set in another of the three forms."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from detrofit.data.index import DetectionIndex, subset
from detrofit.data.open import FORM_NAMES, Dataset
from detrofit.data.pictures import is_picture, missing_pictures
from detrofit.data.write import WRITERS
from detrofit.errors import DetrofitError, nearest

Progress = Callable[[int, int], None]
AREA_TOLERANCE = 0.01  # an area that differs by less from its box's says nothing more


@dataclass(frozen=True)
class Conversion:
    """What was written, and what the new form cannot hold, a phrase each."""

    destination: Path
    kind: str
    pictures: int
    boxes: int
    not_held: tuple[str, ...]


def convert_dataset(
    dataset: Dataset,
    target_kind: str,
    destination: str | Path,
    link: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Write `dataset` in the form `target_kind` ("coco", "yolo" or "voc") into the new folder `destination`.

    Splits, names, original ids, background pictures and crowds are kept as far as the form can hold them; boxes that
    cannot be used are left out, as in training. Pictures are copied, or with `link` hard-linked where the file system
    allows. The folder appears complete or not at all. Raises DetrofitError if it exists and is not empty.
    """
    target = Path(destination).expanduser().absolute()
    if target_kind not in WRITERS:
        hint = nearest(target_kind, WRITERS)
        raise DetrofitError(f"unknown form '{target_kind}', choose {', '.join(WRITERS)}{hint}")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DetrofitError(f"{target} already exists and is not empty: give a new folder")
    indices = [_existing(dataset.split(split)) for split in dataset.splits]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        _write(temporary, target_kind, indices, link, progress)
        if target.exists():
            target.rmdir()
        os.replace(temporary, target)
    except OSError as error:
        raise DetrofitError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    boxes = sum(len(index.labels) - _unwritten(index, target_kind) for index in indices)
    return Conversion(target, target_kind, sum(map(len, indices)), boxes, _not_held(dataset, target_kind, indices))


def _existing(index: DetectionIndex) -> DetectionIndex:
    """The index without pictures that do not exist, as a COCO JSON may have them."""
    missing = missing_pictures(index)
    if not missing:
        return index
    if len(missing) == len(index):
        raise DetrofitError(f"no picture of the split '{index.split}' exists, the first should be {index.path(0)}")
    left_out = index.left_out.get("unreadable-image", 0) + len(missing)
    index = replace(index, left_out={**index.left_out, "unreadable-image": left_out})
    return subset(index, np.setdiff1d(np.arange(len(index)), missing))


def _write(folder: Path, kind: str, indices: list[DetectionIndex], link: bool, progress: Progress | None) -> None:
    writer = WRITERS[kind]
    total, done = sum(map(len, indices)), 0
    taken: set[str] = set()
    for index in indices:
        if writer.names_per_split:
            taken = set()
        names = [_free_name(index.name(position), writer.flat, taken) for position in range(len(index))]
        images = folder / writer.image_folder.format(split=index.split)
        images.mkdir(parents=True, exist_ok=True)
        for position, name in enumerate(names):
            _place(index.path(position), images / name, link)
            done += 1
            if progress is not None:
                progress(done, total)
        writer.write_labels(folder, index, names)
    writer.write_description(folder, indices)


def _free_name(name: str, flat: bool, taken: set[str]) -> str:
    """A name for a picture inside the new folder, as close to the old one as the form allows, not yet taken."""
    parts = [_plain(part) for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
    path = PurePosixPath("_".join(parts)) if flat else PurePosixPath(*parts)
    ending = path.suffix if is_picture(path.name) else ""
    stem = str(path)[: len(str(path)) - len(ending)]
    stem = stem.rstrip() or "_"
    while is_picture(stem):  # `a.jpg.png`: a list of stems would take it for the picture a.jpg
        stem = stem[::-1].replace(".", "_", 1)[::-1]
    free, number = stem, 1
    while free.lower() in taken:  # the stem alone, for label files are named after it
        number += 1
        free = f"{stem}_{number}"
    taken.add(free.lower())
    return free + (ending or ".jpg")  # readers list by ending; decoders look at the content


def _plain(part: str) -> str:
    return "".join(character if character.isprintable() else "_" for character in part).strip().lstrip(".") or "_"


def _place(source: Path, target: Path, link: bool) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if not source.is_file():
        raise DetrofitError(f"{source} is no file: run detrofit data check on the data set first")
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            pass  # another file system, or one without links: copy
    shutil.copyfile(source, target)


def _not_held(dataset: Dataset, kind: str, indices: list[DetectionIndex]) -> tuple[str, ...]:
    left_out = sum(sum(index.left_out.values()) for index in indices)
    lost = [(left_out, "{:,} labels or pictures that cannot be used (detrofit data check names them)")]
    if kind == "yolo":
        lost.append((sum(_unwritten(index, kind) for index in indices), "{:,} boxes of crowds or difficult objects"))
    if kind != "coco":
        gaps = dataset.category_ids != tuple(range(len(dataset.category_ids)))
        lost.append((int(gaps), f"category ids ({FORM_NAMES[kind]} numbers classes from 0)"))
        lost.append((int(dataset.kind == "coco"), "picture ids"))
        lost.append((sum(_own_areas(index) for index in indices), "{:,} areas that differ from their boxes'"))
    return tuple(phrase.format(count) for count, phrase in lost if count)


def _unwritten(index: DetectionIndex, kind: str) -> int:
    return int(index.crowd.sum()) if kind == "yolo" else 0


def _own_areas(index: DetectionIndex) -> int:
    sides = index.boxes_xyxy[:, 2:] - index.boxes_xyxy[:, :2]
    area = sides.prod(axis=1)
    return int((np.abs(index.areas - area) > AREA_TOLERANCE * area).sum())
