"""Writers of the three file forms: labels of one split after the other, then what describes the whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np
import yaml

from detrofit.data.index import DetectionIndex
from detrofit.data.voc import CORNERS
from detrofit.data.yolo import label_path
from detrofit.errors import DetrofitError

DECIMALS = 4  # of coordinates in pixels: finer than float32 can tell on large pictures


class Writer(Protocol):
    """One file form, as the conversion needs it."""

    image_folder: str  # relative to the data set's folder
    flat: bool  # pictures lie in one folder, without folders inside
    names_per_split: bool  # the same file name may appear in several splits

    def write_labels(self, folder: Path, index: DetectionIndex, names: list[str]) -> None:
        """Write a split's labels; `names` are its pictures' new names below `image_folder`."""

    def write_description(self, folder: Path, indices: list[DetectionIndex]) -> None:
        """Write what is not a split's own."""


def exact_boxes(index: DetectionIndex) -> np.ndarray:
    """The boxes as float64 `[M,4]` with the fewest digits that give the same float32 (77.3, not 77.30000305)."""
    return index.boxes_xyxy.astype(np.str_).astype(np.float64).reshape(-1, 4)


def coco_document(index: DetectionIndex, names: list[str]) -> dict[str, Any]:
    """A split as COCO's JSON, with original picture and category ids; annotations are numbered from 1."""
    boxes = exact_boxes(index)
    sides = (boxes[:, 2:] - boxes[:, :2]).round(DECIMALS)
    areas = index.areas.astype(np.str_).astype(np.float64)
    owner = np.repeat(index.image_ids, np.diff(index.box_offsets))
    category = np.array(index.category_ids)[index.labels]
    sizes = zip(index.image_ids.tolist(), names, index.widths.tolist(), index.heights.tolist(), strict=True)
    rows = zip(owner.tolist(), category.tolist(), boxes[:, :2].tolist(), sides.tolist(), areas.tolist(), strict=True)
    keys = ("id", "file_name", "width", "height")
    return {
        "images": [dict(zip(keys, each, strict=True)) for each in sizes],
        "categories": [
            {"id": category_id, "name": name}
            for category_id, name in zip(index.category_ids, index.class_names, strict=True)
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": label,
                "bbox": corner + side,
                "area": area,
                "iscrowd": flag,
            }
            for number, ((image, label, corner, side, area), flag) in enumerate(
                zip(rows, index.crowd.astype(int).tolist(), strict=True), 1
            )
        ],
    }


class CocoWriter:
    """`annotations/SPLIT.json` and `images/SPLIT/`."""

    image_folder = "images/{split}"
    flat = False
    names_per_split = True

    def write_labels(self, folder: Path, index: DetectionIndex, names: list[str]) -> None:
        target = folder / "annotations" / f"{index.split}.json"
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(coco_document(index, names)), encoding="utf-8")

    def write_description(self, folder: Path, indices: list[DetectionIndex]) -> None:
        """Nothing: each JSON describes itself."""


class YoloWriter:
    """`data.yaml`, `images/SPLIT/` and `labels/SPLIT/`; boxes of crowds are left out, for it cannot mark them."""

    image_folder = "images/{split}"
    flat = False
    names_per_split = True

    def write_labels(self, folder: Path, index: DetectionIndex, names: list[str]) -> None:
        boxes = exact_boxes(index)
        owner = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
        scale = np.stack([index.widths[owner], index.heights[owner]], axis=1)
        normalised = np.concatenate([boxes[:, :2] + boxes[:, 2:], 2 * (boxes[:, 2:] - boxes[:, :2])], axis=1) / 2
        normalised = normalised / np.tile(scale, 2)
        for position, name in enumerate(names):
            target = Path(label_path(str(folder / self.image_folder.format(split=index.split) / name)))
            target.parent.mkdir(parents=True, exist_ok=True)
            start, end = int(index.box_offsets[position]), int(index.box_offsets[position + 1])
            rows = (
                f"{index.labels[box]} {' '.join(f'{number:.9g}' for number in normalised[box])}\n"
                for box in range(start, end)
                if not index.crowd[box]
            )
            target.write_text("".join(rows), encoding="utf-8")

    def write_description(self, folder: Path, indices: list[DetectionIndex]) -> None:
        splits = {index.split: self.image_folder.format(split=index.split) for index in indices}
        content = {**splits, "names": dict(enumerate(indices[0].class_names))}
        text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
        (folder / "data.yaml").write_text(text, encoding="utf-8")


class VocWriter:
    """`Annotations`, `JPEGImages`, `ImageSets/Main`, and `labels.txt` with the classes in their order."""

    image_folder = "JPEGImages"
    flat = True
    names_per_split = False

    def write_labels(self, folder: Path, index: DetectionIndex, names: list[str]) -> None:
        _refuse_same_names(index.class_names)
        boxes = exact_boxes(index)
        stems = [name.rpartition(".")[0] for name in names]
        (folder / "Annotations").mkdir(exist_ok=True)
        for position, (name, stem) in enumerate(zip(names, stems, strict=True)):
            tree = ElementTree.ElementTree(_voc_annotation(index, boxes, position, name))
            ElementTree.indent(tree)
            tree.write(folder / "Annotations" / f"{stem}.xml", encoding="utf-8")
        lists = folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{index.split}.txt").write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")

    def write_description(self, folder: Path, indices: list[DetectionIndex]) -> None:
        names = "".join(f"{name.strip()}\n" for name in indices[0].class_names)
        (folder / "labels.txt").write_text(names, encoding="utf-8")


def _refuse_same_names(names: tuple[str, ...]) -> None:
    plain = [name.strip() for name in names]
    for name in plain:
        if not name or plain.count(name) > 1:
            raise DetrofitError(f"Pascal VOC tells classes by name, but '{name}' does not name just one: rename it")


def _voc_annotation(index: DetectionIndex, boxes: np.ndarray, position: int, name: str) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    sides = {"width": index.widths[position], "height": index.heights[position], "depth": 3}
    for key, value in sides.items():
        ElementTree.SubElement(size, key).text = str(value)
    for box in range(int(index.box_offsets[position]), int(index.box_offsets[position + 1])):
        each = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(each, "name").text = index.class_names[index.labels[box]].strip()
        ElementTree.SubElement(each, "difficult").text = str(int(index.crowd[box]))
        corners = ElementTree.SubElement(each, "bndbox")
        for corner, number in zip(CORNERS, boxes[box].tolist(), strict=True):
            ElementTree.SubElement(corners, corner).text = repr(number).removesuffix(".0")
    return root


WRITERS: dict[str, Writer] = {"coco": CocoWriter(), "yolo": YoloWriter(), "voc": VocWriter()}
