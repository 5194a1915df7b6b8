"""Pictures by short names, and what a data set says is in them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitWarning
from detrofit.explanation.explain import Truth
from detrofit.pictures import decode_picture
from detrofit.runtime.sources import find_pictures


@dataclass(frozen=True)
class NamedPicture:
    """A decoded picture uint8 `[H,W,3]` and its file."""

    pixels: np.ndarray
    path: Path


def named_pictures(sources: Sequence[str]) -> dict[str, NamedPicture]:
    """The pictures of files, folders and globs by the stems of their files, numbered where two are the same.

    Raises DetrofitError for what is no picture.
    """
    found: dict[str, NamedPicture] = {}
    for picture in find_pictures(list(sources)):
        path = Path(picture.name)
        name = path.stem if path.stem not in found else f"{path.stem}-{len(found) + 1}"
        found[name] = NamedPicture(decode_picture(picture.content), path)
    return found


def truth_of(pictures: Mapping[str, NamedPicture], data: Path) -> dict[str, Truth]:
    """The objects of those pictures that are in any split of the data set, by the same names; a warning if none is."""
    dataset = open_dataset(data)
    wanted = {each.path.resolve(): name for name, each in pictures.items()}
    truth: dict[str, Truth] = {}
    for split in dataset.splits:
        index = dataset.split(split)
        for position in range(len(index)):
            name = wanted.get(index.path(position).resolve())
            if name is not None:
                labels = index.labels_of(position)
                truth[name] = index.boxes(position), [index.class_names[label] for label in labels]
    if not truth:
        message = f"none of the pictures is in {data}, so that no ground truth is shown"
        warnings.warn(message, DetrofitWarning, stacklevel=2)
    return truth
