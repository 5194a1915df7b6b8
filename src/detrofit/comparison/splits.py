"""The splits of a study: one to train on, one that chooses the checkpoint, and another for the verdict."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from detrofit.data.index import DetectionIndex, subset
from detrofit.data.open import Dataset, open_dataset
from detrofit.data.write import coco_document
from detrofit.errors import DetrofitError
from detrofit.evaluation.coco import SIZE_BOUNDS, SIZES
from detrofit.files import file_digest, write_file
from detrofit.randomness import derive_seed

HELD_OUT_SHARE = 0.15
FEWEST_HELD_OUT = 8
USUAL_SPLITS = ("val", "test")  # of which one may be missing
READERS = 8  # threads that read pictures for the digest of the data


@dataclass(frozen=True)
class StudyData:
    """Where a study's data is, its splits, a digest of their content, and what people must know about it.

    `objects` counts what each metric rests on in the test split: `AP`, `AP_small` and so on, `AP/CLASS`.
    """

    path: Path
    val_split: str
    test_split: str
    digest: str
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    objects: dict[str, int]

    def open_test(self) -> DetectionIndex:
        """The split of the verdict."""
        return open_dataset(self.path).split(self.test_split)


def prepare_data(source: Path, val_split: str, test_split: str, folder: Path, *, judged: bool = True) -> StudyData:
    """The data of a study in `folder`; where only one of the two splits exists, it gives the verdict, and the split
    that chooses checkpoints is drawn from train, written as COCO JSON beside the study.

    Where nothing is `judged` on the test split, it may lack objects, and all that is noted is what splits share. Raises
    DetrofitError where there is neither split, and where the folder holds what was drawn from other data.
    """
    dataset = open_dataset(source)
    notes: list[str] = []
    single = _single_split(dataset, val_split, test_split)
    if single is not None:
        path = _write_held_out(dataset, single, folder)
        dataset, val_split, test_split = open_dataset(path), "val", "test"
        notes.append(
            f"the data has '{single}' alone beside train: it gives the verdict, and "
            f"{len(dataset.split('val'))} pictures drawn from train choose the checkpoint"
        )
        source = path
    indices = [dataset.split(name) for name in ("train", val_split, test_split)]
    notes = [*notes, *_absent_classes(indices[-1])] if judged else []
    pictures = [picture_digests(index) for index in indices]
    notes += _shared_pictures([index.split for index in indices], pictures)
    digest = data_digest(indices, pictures)
    names, objects = tuple(dataset.class_names), count_objects(indices[-1])
    return StudyData(source.absolute(), val_split, test_split, digest, names, tuple(notes), objects)


def count_objects(index: DetectionIndex) -> dict[str, int]:
    """How many objects of a split count for AP, for each size and for each class, by the metric's name."""
    labels, areas = index.labels[~index.crowd], index.areas[~index.crowd]
    counts = {"AP": len(labels)}
    for size, (low, high) in zip(SIZES, SIZE_BOUNDS, strict=True):
        counts[f"AP_{size}"] = int(((areas >= low) & (areas <= high)).sum())
    by_class = np.bincount(labels, minlength=len(index.class_names)).tolist()
    return counts | {f"AP/{name}": count for name, count in zip(index.class_names, by_class, strict=True)}


def data_digest(splits: Sequence[DetectionIndex], pictures: Sequence[Sequence[str]]) -> str:
    """A digest of all splits that a study uses, in the order train, val, test: annotations, names and picture files."""
    parts = []
    for index, digests in zip(splits, pictures, strict=True):
        digest = index.hashed()
        digest.update("".join(digests).encode())
        parts.append(digest.hexdigest())
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def picture_digests(index: DetectionIndex) -> list[str]:
    """A digest of each picture file of a split."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(file_digest, map(index.path, range(len(index)))))


def _shared_pictures(names: Sequence[str], pictures: Sequence[Sequence[str]]) -> list[str]:
    """A sentence for each two splits that have pictures in common; DetrofitError where that is most of the second."""
    notes = []
    for (one, first), (other, second) in itertools.combinations(zip(names, map(set, pictures), strict=True), 2):
        shared = len(first & second)
        if 2 * shared > len(second):
            raise DetrofitError(
                f"{shared} of {len(second)} pictures of '{other}' are in '{one}' as well, so that a verdict would mean "
                "nothing: divide the data anew, or leave one of the two out, and a part of train takes its place"
            )
        if shared:
            notes.append(f"{shared} of {len(second)} pictures of '{other}' are in '{one}' as well")
    return notes


def _single_split(dataset: Dataset, val_split: str, test_split: str) -> str | None:
    """The one of both that there is; None where there are two. A slip of spelling does not make one of them absent."""
    asked = dict.fromkeys((val_split, test_split))
    present = [name for name in asked if name in dataset.splits]
    for name in asked:
        if name not in present and (name not in USUAL_SPLITS or name in dataset.reader.absent):
            dataset.split(name)  # says what there is
    if not present:
        raise DetrofitError(
            f"{dataset.source} has neither '{val_split}' nor '{test_split}'; a verdict needs one of them"
        )
    return None if len(present) == 2 else present[0]


def _absent_classes(test: DetectionIndex) -> list[str]:
    counts = np.bincount(test.labels[~test.crowd], minlength=len(test.class_names))
    absent = [name for name, count in zip(test.class_names, counts, strict=True) if not count]
    if len(absent) == len(test.class_names):
        raise DetrofitError(f"the split '{test.split}' has no objects, so that there is nothing to score")
    return [f"'{test.split}' has no objects of '{name}': that class is left out of AP" for name in absent]


def _write_held_out(dataset: Dataset, single: str, folder: Path) -> Path:
    train = dataset.split("train")
    order = np.random.default_rng(derive_seed("held-out")).permutation(len(train))
    number = max(FEWEST_HELD_OUT, round(HELD_OUT_SHARE * len(train)))
    if number * 2 > len(train):
        raise DetrofitError(f"{dataset.source} has only '{single}' beside train, and train is too small to be divided")
    held_out, rest = np.sort(order[:number]), np.sort(order[number:])
    parts = {"train": subset(train, rest), "val": subset(train, held_out), "test": dataset.split(single)}
    content = {
        name: {"annotations": f"{name}.json", "images": str(Path(index.root).absolute())}
        for name, index in parts.items()
    }
    texts = {f"{name}.json": json.dumps(coco_document(index, index.names())) for name, index in parts.items()}
    texts["data.yaml"] = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)  # last: it names the others
    target = folder / "data"
    if (target / "data.yaml").exists():
        changed = [name for name, text in texts.items() if not _holds(target / name, text)]
        if changed:  # another command may be at work with what is there
            raise DetrofitError(f"{target} holds a division of other data than {dataset.source}; choose another folder")
    for name, text in texts.items():
        write_file(target / name, text)
    return target / "data.yaml"


def _holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text("utf-8") == text
