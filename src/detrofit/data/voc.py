"""Pascal VOC form: an XML file for each picture in `Annotations`, pictures in `JPEGImages`, lists in `ImageSets/Main`.

Corners are taken as written, as today's labelling tools write them (edges in pixels from 0). `difficult` objects are
marked as COCO's crowds are: neither trained on nor counted in evaluation.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.parsers import expat

import numpy as np

from detrofit.data.cache import digest_of_files
from detrofit.data.index import pack_names
from detrofit.data.pictures import READING_THREADS, is_picture, list_files, read_lines, read_sizes
from detrofit.data.reading import Problem, Reading

SPLITS = ("train", "val", "test")
CLASS_FILES = ("labels.txt", "classes.txt")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
MOST_PIXELS = 2**31 - 1
NOT_IN_CLASS_FILE = 1_000_000  # category ids of names that a class file does not list start here


@dataclass
class Annotation:
    """One XML file: the size it states and its objects."""

    width: int = 0
    height: int = 0
    names: list[str] = field(default_factory=list)
    boxes: list[tuple[float, ...]] = field(default_factory=list)
    difficult: list[bool] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


class VocReader:
    """Reads a folder in VOC form; class names come in sorted order unless labels.txt or classes.txt lists them."""

    kind = "voc"

    def __init__(self, source: Path) -> None:
        self.source = source
        self.absent: dict[str, str] = {}
        self.stems = _read_lists(source)
        self.splits = tuple(split for split in SPLITS if split in self.stems)
        self.listed_names = _read_class_file(source)
        self._files: dict[str, str] | None = None
        self._prepared: dict[str, Reading] = {}

    def categories(self, read: Callable[[str], Reading]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        names = self.listed_names or read(self.splits[0]).category_names
        return tuple(range(len(names))), tuple(names)

    def image_root(self, split: str) -> str:
        return str(self.source / "JPEGImages")

    def fingerprint(self, split: str) -> str:
        files = self._picture_files()
        pictures = [os.path.join(self.image_root(split), files.get(stem, stem)) for stem in self.stems[split]]
        labels = [self._xml_path(stem) for stem in self._all_stems()]
        return digest_of_files([*pictures, *labels], split, repr(self.listed_names))

    def read(self, split: str) -> Reading:
        if split not in self._prepared:
            # The class names are those of all splits, so all are read at once; the parsed files are not kept.
            parsed = read_annotations({stem: self._xml_path(stem) for stem in self._all_stems()})
            names = self._category_names(parsed)
            self._prepared = {each: self._build(each, parsed, names) for each in self.splits}
        return self._prepared.pop(split)

    def _build(self, split: str, parsed: dict[str, Annotation], names: dict[int, str]) -> Reading:
        stems = self.stems[split]
        annotations = [parsed[stem] for stem in stems]
        files = self._picture_files()
        picture_names = [files.get(stem, f"{stem}.jpg") for stem in stems]
        sizes = read_sizes([os.path.join(self.image_root(split), name) for name in picture_names])
        name_bytes, name_offsets = pack_names(picture_names)
        counts = [len(annotation.names) for annotation in annotations]
        flat_boxes = [box for annotation in annotations for box in annotation.boxes]
        ids = {name: category_id for category_id, name in names.items()}
        return Reading(
            root=self.image_root(split),
            name_bytes=name_bytes,
            name_offsets=name_offsets,
            image_ids=np.arange(1, len(stems) + 1, dtype=np.int64),
            widths=sizes[:, 0],
            heights=sizes[:, 1],
            stated_sizes=np.array([(each.width, each.height) for each in annotations], np.int32).reshape(-1, 2),
            box_image=np.repeat(np.arange(len(stems)), counts),
            boxes_xyxy=np.array(flat_boxes, np.float64).reshape(-1, 4),
            box_category=np.array([ids[name] for annotation in annotations for name in annotation.names], np.int64),
            crowd=np.array([flag for annotation in annotations for flag in annotation.difficult], bool),
            areas=np.full(len(flat_boxes), np.nan, np.float32),
            category_ids=np.array(list(names), np.int64),
            category_names=tuple(names.values()),
            problems=tuple(each for annotation in annotations for each in annotation.problems),
        )

    def strays(self) -> list[Problem]:
        pictures = self._picture_files()
        stems = self._all_stems()
        listed = set(stems)
        found = list_files(str(self.source / "Annotations"))
        labelled = {os.path.splitext(name)[0] for name in found if name.endswith(".xml")}
        unlabelled = pictures.keys() - labelled
        lost = sorted(labelled - pictures.keys())
        unlisted = sorted(pictures.keys() - listed)
        return [
            *(Problem("image-without-label", pictures[stem], "") for stem in stems if stem in unlabelled),
            *(Problem("label-without-image", self._xml_path(stem), "") for stem in lost),
            *(Problem("unlisted-image", pictures[stem], "") for stem in unlisted),
        ]

    def _category_names(self, parsed: dict[str, Annotation]) -> dict[int, str]:
        seen = {name for annotation in parsed.values() for name in annotation.names}
        if not self.listed_names:
            return dict(enumerate(sorted(seen)))
        unlisted = sorted(seen.difference(self.listed_names))
        return {**dict(enumerate(self.listed_names)), **dict(enumerate(unlisted, NOT_IN_CLASS_FILE))}

    def _all_stems(self) -> list[str]:
        return list(dict.fromkeys(stem for split in self.splits for stem in self.stems[split]))

    def _xml_path(self, stem: str) -> str:
        return str(self.source / "Annotations" / f"{stem}.xml")

    def _picture_files(self) -> dict[str, str]:
        if self._files is None:
            pictures = [name for name in list_files(self.image_root("")) if is_picture(name)]
            self._files = {os.path.splitext(name)[0]: name for name in pictures}
        return self._files


def _read_lists(source: Path) -> dict[str, list[str]]:
    folder = source / "ImageSets" / "Main"
    lists = {split: folder / f"{split}.txt" for split in SPLITS if (folder / f"{split}.txt").is_file()}
    if "train" not in lists and (folder / "trainval.txt").is_file():
        lists["train"] = folder / "trainval.txt"
    if lists:
        found = {split: _read_list(path) for split, path in lists.items()}
        if "train" in lists and lists["train"].stem == "trainval":  # what judges is not learnt
            judged = {stem for split in found if split != "train" for stem in found[split]}
            found["train"] = [stem for stem in found["train"] if stem not in judged]
        return found
    stems = [os.path.splitext(name)[0] for name in list_files(str(source / "Annotations")) if name.endswith(".xml")]
    return {"train": stems}


def _read_list(path: Path) -> list[str]:
    entries = read_lines(path, "picture name")
    return list(dict.fromkeys(os.path.splitext(entry)[0] if is_picture(entry) else entry for entry in entries))


def _read_class_file(source: Path) -> tuple[str, ...]:
    for name in CLASS_FILES:
        if (source / name).is_file():
            return tuple(dict.fromkeys(read_lines(source / name, "class name")))
    return ()


def read_annotations(paths: dict[str, str]) -> dict[str, Annotation]:
    """Read many XML files, given and returned by stem. Unreadable ones come back empty, with a problem."""
    with ThreadPoolExecutor(READING_THREADS) as pool:
        return dict(zip(paths, pool.map(read_annotation, paths.values(), chunksize=64), strict=True))


def read_annotation(path: str) -> Annotation:
    """Read one XML file; what is wrong with it is in `problems`. A file that does not exist is an empty picture."""
    annotation = Annotation()
    try:
        with open(path, "rb") as file:
            root = parse_xml(file.read())
    except FileNotFoundError:
        return annotation
    except (OSError, ParseError) as error:
        annotation.problems.append(Problem("malformed-label", path, str(error)))
        return annotation
    annotation.width, annotation.height = (_whole(root.findtext(f"size/{side}")) for side in ("width", "height"))
    for number, each in enumerate(root.iter("object"), 1):
        _add_object(annotation, each, f"{path} object {number}")
    return annotation


def _add_object(annotation: Annotation, each: Element, where: str) -> None:
    name = (each.findtext("name") or "").strip()
    try:
        box = tuple(float(each.findtext(f"bndbox/{corner}") or "") for corner in CORNERS)
    except ValueError:
        annotation.problems.append(Problem("malformed-label", where, "no complete bndbox"))
        return
    if not name:
        annotation.problems.append(Problem("malformed-label", where, "no name"))
        return
    annotation.names.append(name)
    annotation.boxes.append(box)
    annotation.difficult.append((each.findtext("difficult") or "").strip() == "1")


def _whole(text: str | None) -> int:
    try:
        return min(max(0, int(float(text or 0))), MOST_PIXELS)
    except (ValueError, OverflowError):
        return 0


def parse_xml(content: bytes) -> Element:
    """Parse XML that declares no document type, so that no entity can be expanded or fetched; else ParseError."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = _refuse_document_type
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise ParseError(f"not valid XML: {error}") from None
    return builder.close()


def _refuse_document_type(*declaration: object) -> None:
    raise ParseError("declares a document type, which is refused (it could expand entities)")
