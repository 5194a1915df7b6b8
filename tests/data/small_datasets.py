"""Data sets of a few tiny pictures on disk, in each of the three forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def write_picture(path: Path, width: int = 40, height: int = 30, seed: int = 0, **options: Any) -> Path:
    """A picture of noise: pictures of different seeds look different."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def write_coco(
    folder: Path,
    split: str = "train",
    images: list[dict[str, Any]] | None = None,
    annotations: list[dict[str, Any]] | None = None,
    categories: tuple[tuple[int, str], ...] = ((3, "cat"), (7, "dog"), (90, "toothbrush")),
) -> Path:
    """`annotations/SPLIT.json` with pictures in `images`; by default two pictures, the second without boxes."""
    if images is None:
        images = [
            {"id": 50, "file_name": f"{split}_a.png", "width": 40, "height": 30},
            {"id": 7, "file_name": f"{split}_b.png", "width": 20, "height": 10},
        ]
        for seed, image in enumerate(images, sum(map(ord, split))):
            write_picture(folder / "images" / image["file_name"], image["width"], image["height"], seed)
    if annotations is None:
        annotations = [
            {"id": 1, "image_id": 50, "category_id": 90, "bbox": [1, 2, 10, 20], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 50, "category_id": 3, "bbox": [5.5, 5, 8, 8], "area": 64, "iscrowd": 1},
        ]
    document = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    path = folder / "annotations" / f"{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def write_yolo(folder: Path, labels: dict[str, str | None], names: Any = ("cat", "dog"), **more: Any) -> Path:
    """A `data.yaml` with pictures 40 x 30 at `images/KEY.png` and label files; None leaves the label file out."""
    splits = sorted({name.partition("/")[0] for name in labels})
    for seed, (name, text) in enumerate(labels.items()):
        write_picture(folder / "images" / f"{name}.png", seed=seed)
        target = folder / "labels" / f"{name}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            target.write_text(text)
    names = list(names) if isinstance(names, tuple) else names
    content = {**{split: f"images/{split}" for split in splits}, "names": names, **more}
    path = folder / "data.yaml"
    path.write_text(json.dumps(content))  # JSON is YAML
    return path


def voc_object(name: str, *corners: float, difficult: int = 0) -> str:
    places = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{places}</bndbox></object>"


def write_voc(folder: Path, splits: dict[str, dict[str, str | None]]) -> Path:
    """A VOC folder: for each split the objects (XML) of each picture stem; None leaves the XML file out."""
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (folder / "Annotations").mkdir()
    for split, pictures in splits.items():
        (lists / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in pictures))
        for seed, (stem, objects) in enumerate(pictures.items(), sum(map(ord, split))):
            write_picture(folder / "JPEGImages" / f"{stem}.png", seed=seed)
            if objects is not None:
                size = "<size><width>40</width><height>30</height><depth>3</depth></size>"
                (folder / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    return folder
