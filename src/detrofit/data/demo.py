"""The data set of the demonstration: drawn from a seed, in Ultralytics YOLO form, without any download."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import yaml
from PIL import Image

from detrofit.data.demo_scenes import SHAPES, Scene, draw_scene
from detrofit.errors import DetrofitError
from detrofit.randomness import derive_seed

PICTURES: Mapping[str, int] = MappingProxyType({"train": 240, "val": 60, "test": 60})
JPEG_QUALITY = 92


def draw_demo_dataset(
    folder: str | os.PathLike[str],
    seed: int = 0,
    *,
    pictures: Mapping[str, int] = PICTURES,
    size: tuple[int, int] = (320, 320),
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Draw the demonstration's data set into `folder`, which must not exist yet, and return its `data.yaml`.

    `pictures` says how many each split gets, `size` is (height, width) in pixels, and `progress` is called with the
    number of pictures done and of all. The same seed gives the same data set. The folder appears only when complete.
    Raises DetrofitError if it exists already.
    """
    folder = Path(folder)
    if folder.exists():
        raise DetrofitError(f"{folder} exists already; remove it or name another folder for the demonstration's data")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        _draw_splits(unfinished, seed, pictures, size, progress or _silent)
        _write_description(unfinished / "data.yaml", pictures)
        unfinished.replace(folder)
    except OSError as error:
        raise DetrofitError(f"{folder} cannot be written ({error.strerror}); name another folder") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder / "data.yaml"


def _draw_splits(
    folder: Path, seed: int, pictures: Mapping[str, int], size: tuple[int, int], progress: Callable[[int, int], None]
) -> None:
    done, total = 0, sum(pictures.values())
    for split, number in pictures.items():
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for position in range(number):
            generator = np.random.default_rng(derive_seed(seed, "demo", split, position))
            _write_scene(folder, split, f"{split}_{position + 1:04d}", draw_scene(generator, *size))
            done += 1
            progress(done, total)


def _silent(done: int, total: int) -> None:
    pass


def _write_scene(folder: Path, split: str, name: str, scene: Scene) -> None:
    picture = Image.fromarray(scene.picture)
    picture.save(folder / "images" / split / f"{name}.jpg", quality=JPEG_QUALITY, subsampling=0)
    extent = np.array([*picture.size, *picture.size])
    lines = []
    for label, (left, top, right, bottom) in zip(scene.labels, scene.boxes / extent, strict=True):
        values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        lines.append(" ".join([str(label), *(f"{value:.6f}" for value in values)]) + "\n")
    (folder / "labels" / split / f"{name}.txt").write_text("".join(lines), encoding="utf-8")


def _write_description(path: Path, pictures: Mapping[str, int]) -> None:
    splits = {split: f"images/{split}" for split in pictures}
    content = {**splits, "names": dict(enumerate(SHAPES))}
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
