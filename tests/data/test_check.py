from __future__ import annotations

import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from detrofit.data import check_pictures
from detrofit.data.check import Report, check_dataset
from detrofit.data.check_pictures import PictureFacts, inspect_pictures
from detrofit.data.findings import KINDS, Finding
from detrofit.data.open import open_dataset
from tests.data.small_datasets import voc_object, write_coco, write_picture, write_voc, write_yolo


def check(folder: Path, imgsz: int | tuple[int, int] = 64) -> dict[str, Finding]:
    return {finding.code: finding for finding in check_dataset(open_dataset(folder), imgsz).findings}


def photograph(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture with structure at every scale, as photographs have and noise has not."""
    noise = np.random.default_rng(seed).uniform(0, 255, (8, 8, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def test_an_interruption_leaves_the_pictures_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    def inspect(path: str) -> PictureFacts:
        looked_at.append(path)
        time.sleep(0.01)
        return PictureFacts()

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check_pictures, "inspect_picture", inspect)
    with pytest.raises(KeyboardInterrupt):
        inspect_pictures([str(number) for number in range(1000)], interrupt)
    assert len(looked_at) < 500


def test_a_sound_data_set_has_no_errors(tmp_path: Path) -> None:
    boxes = "0 .3 .3 .5 .5\n1 .6 .6 .4 .4\n" * 1
    labels: dict[str, str | None] = {f"{split}/{number}": boxes for split in ("train", "val") for number in range(10)}
    write_yolo(tmp_path, labels)
    report = check_dataset(open_dataset(tmp_path), 64)
    assert report.ok
    assert {finding.code for finding in report.findings} <= {"small-image"}


def test_boxes_at_fault_are_named_with_their_pictures(tmp_path: Path) -> None:
    good = voc_object("cat", 2, 2, 20, 20)
    objects = {
        "flat": voc_object("cat", 5, 5, 5, 9),
        "away": voc_object("cat", 50, 50, 60, 60),
        "edge": voc_object("cat", -5, 1, 20, 20),
        "thin": voc_object("cat", 1, 1, 3, 20),
        "same": good + good,
        "other": good + voc_object("dog", 2, 2, 20, 20),
        "whole": voc_object("cat", 0, 0, 40, 30),
        "long": voc_object("cat", 0, 10, 40, 11),
        "hard": voc_object("cat", 2, 2, 20, 20, difficult=1),
    }
    write_voc(tmp_path, {"train": dict(objects), "val": {"v": good}})
    found = check(tmp_path)
    expected = {
        "degenerate-box": "train/flat.png: cat at (5, 5, 5, 9)",
        "outside-box": "train/away.png: cat at (50, 50, 60, 60)",
        "clipped-box": "train/edge.png: cat at (-5, 1, 20, 20)",
        "duplicate-box": "train/same.png: cat at (2, 2, 20, 20)",
        "conflicting-box": "train/other.png: dog at (2, 2, 20, 20)",
        "whole-image-box": "train/whole.png: cat at (0, 0, 40, 30)",
        "elongated-box": "train/long.png: cat at (0, 10, 40, 11)",
        "crowd-box": "train/hard.png: cat at (2, 2, 20, 20)",
    }
    assert {code: found[code].examples for code in expected} == {code: (text,) for code, text in expected.items()}
    assert [example.partition(":")[0] for example in found["tiny-box"].examples] == ["train/thin.png", "train/long.png"]
    assert found["degenerate-box"].severity == "error"
    assert found["tiny-box"].severity == "warning"


def test_tiny_is_judged_at_the_training_resolution(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": voc_object("cat", 1, 1, 7, 13)}})
    assert "tiny-box" not in check(tmp_path, imgsz=64)
    assert "tiny-box" in check(tmp_path, imgsz=16)
    assert "tiny-box" in check(tmp_path, imgsz=(64, 16))  # its picture is 40 wide and 30 high
    assert "tiny-box" not in check(tmp_path, imgsz=(16, 64))


def test_bad_picture_files_are_named(tmp_path: Path) -> None:
    names = ("good", "text", "gone", "cut", "cmyk", "deep", "grey", "turned", "dot", "renamed", "blank")
    write_yolo(tmp_path, {f"train/{name}": "0 .5 .5 .5 .5" for name in names})
    folder = tmp_path / "images" / "train"
    (folder / "text.png").write_text("hello")
    whole = write_picture(folder / "cut.png", 64, 64, seed=20).read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    for name in ("gone", "cmyk", "deep", "turned"):
        (folder / f"{name}.png").unlink()
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    photograph(1).convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.asarray(photograph(2).convert("L")).astype(np.uint16) * 256
    Image.fromarray(deep).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    photograph(3).save(folder / "turned.jpg", exif=exif)
    photograph(4).convert("L").save(folder / "grey.png")
    write_picture(folder / "dot.png", 1, 1)
    photograph(5).save(folder / "renamed.png", format="JPEG")
    Image.new("RGB", (64, 64), "red").save(folder / "blank.png")
    found = check(tmp_path)
    named = {code: [each.partition(":")[0] for each in finding.examples] for code, finding in found.items()}
    assert named["missing-image"] == ["train/gone.png"]
    assert named["unreadable-image"] == ["train/cut.png", "train/text.png"]
    assert named["colour-mode"] == ["train/cmyk.jpg", "train/deep.png"]
    assert named["rotated-image"] == ["train/turned.jpg"]
    assert named["wrong-ending"] == ["train/renamed.png"]
    assert "train/dot.png" in named["small-image"]
    assert named["blank-image"] == ["train/blank.png", "train/dot.png"] or named["blank-image"] == ["train/blank.png"]
    assert "not a picture" in found["unreadable-image"].examples[1]


def test_a_picture_of_another_size_than_labelled_is_an_error(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    write_picture(tmp_path / "images" / "train_a.png", 30, 40)
    found = check(path)
    assert found["size-mismatch"].examples == ("train/train_a.png: 30 x 40, but labelled as 40 x 30",)


def test_files_without_counterpart_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo", {"train/a": None, "train/b": ""}, nc=5)
    (tmp_path / "yolo/labels/train/lost.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "yolo/labels/train/classes.txt").write_text("cat")
    write_picture(tmp_path / "yolo/images/train/b.jpg", seed=9)
    found = check(tmp_path / "yolo")
    assert found["image-without-label"].examples == (f"{tmp_path}/yolo/images/train/a.png",)
    assert found["label-without-image"].examples == (f"{tmp_path}/yolo/labels/train/lost.txt",)
    assert found["shared-label"].examples == (f"{tmp_path}/yolo/labels/train/b.txt",)
    assert "nc is 5, but 2 names" in found["class-count-mismatch"].examples[0]

    write_voc(tmp_path / "voc", {"train": {"a": voc_object("cat", 2, 2, 20, 20), "b": None}})
    (tmp_path / "voc/Annotations/lost.xml").write_text("<annotation/>")
    write_picture(tmp_path / "voc/JPEGImages/spare.png", seed=9)
    found = check(tmp_path / "voc")
    assert found["image-without-label"].examples == ("b.png",)
    assert found["label-without-image"].examples == (f"{tmp_path}/voc/Annotations/lost.xml",)
    assert found["unlisted-image"].examples == ("spare.png",)

    write_coco(tmp_path / "coco")
    write_picture(tmp_path / "coco/images/spare.png", seed=9)
    assert check(tmp_path / "coco")["unlisted-image"].examples == (f"{tmp_path}/coco/images/spare.png",)


def test_lines_that_cannot_be_read_are_named_with_their_number(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train/a": "0 .5 .5 .5 .5\noops\n9 .5 .5 .5 .5\n0 20 20 5 5\n"})
    found = check(tmp_path)
    label = tmp_path / "labels" / "train" / "a.txt"
    assert found["malformed-label"].examples[0].startswith(f"{label} line 2: ")
    assert found["not-normalised"].examples == (f"{label} line 4: box 20 20 5 5",)
    assert found["unknown-class"].examples[0].startswith("train/a.png: class 9 at ")


def test_the_same_picture_in_two_splits_is_found_exactly_and_nearly(tmp_path: Path) -> None:
    labels = {"train/a": "", "train/b": "", "train/c": "", "val/d": "", "val/e": "", "val/f": "", "val/g": ""}
    write_yolo(tmp_path, dict(labels))
    folder = tmp_path / "images"
    for seed, name in enumerate(labels):
        photograph(seed).save(folder / f"{name}.png")
    shutil.copy(folder / "train/a.png", folder / "val/d.png")
    photograph(1, (80, 60)).save(folder / "val/e.jpg", quality=50)
    (folder / "val/e.png").unlink()
    shutil.copy(folder / "val/f.png", folder / "val/g.png")
    photograph(2).save(folder / "train/h.jpg", quality=50)
    found = check(tmp_path)
    assert found["leak"].examples == ("val/d.png is train/a.png",)
    assert found["near-leak"].examples == ("val/e.jpg is like train/b.png",)
    assert found["duplicate-image"].examples == ("val/g.png is val/f.png",)
    assert found["near-duplicate-image"].examples == ("train/h.jpg is like train/c.png",)
    assert found["leak"].severity == "error"


def test_different_photographs_are_not_called_alike(tmp_path: Path) -> None:
    names = [f"train/{number}" for number in range(25)]
    write_yolo(tmp_path, dict.fromkeys(names, ""))
    for seed, name in enumerate(names):
        photograph(100 + seed).save(tmp_path / "images" / f"{name}.png")
    assert not {"near-duplicate-image", "duplicate-image"} & check(tmp_path).keys()


def test_balance_of_classes_is_judged(tmp_path: Path) -> None:
    labels: dict[str, str | None] = {"train/a": "0 .5 .5 .5 .5\n" * 600 + "1 .5 .5 .5 .5\n", "val/b": "0 .5 .5 .5 .5"}
    write_yolo(tmp_path, labels, names=["cat", "dog", "Cat "])
    found = check(tmp_path)
    assert found["class-imbalance"].examples == ("dog: 1",)
    assert found["rare-class"].examples == ("dog: 1",)
    assert found["absent-class"].examples == ("val has no dog",)
    assert found["class-without-boxes"].examples == ("Cat ",)
    assert found["similar-class-names"].examples == ("'Cat ' and 'cat'",)
    assert found["crowded-image"].examples == ("train/a.png: 601 objects",)


def test_splits_are_judged(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train/a": None, "train/b": None}, val="images/vla")
    found = check(tmp_path)
    assert found["missing-split"].examples == (f"val should be {tmp_path}/images/vla",)
    assert found["mostly-background"].examples == ("train: 2 of 2",)
    write_coco(tmp_path / "coco", "train", categories=((3, "dog"), (90, "cat")))
    write_coco(tmp_path / "coco", "test", categories=((3, "cat"), (90, "cat")))
    found = check(tmp_path / "coco")
    assert "category 3 is 'dog' in 'train' but 'cat' in 'test'" in found["category-conflict"].examples
    assert found["no-split"].examples == ("val",)


@pytest.fixture
def bad_report(tmp_path: Path) -> Report:
    write_voc(tmp_path, {"train": {"a[red]": voc_object("c[at]", 5, 5, 5, 5) * 8 + voc_object("c[at]", 1, 1, 9, 9)}})
    return check_dataset(open_dataset(tmp_path), 320)


def test_the_report_becomes_json(bad_report: Report) -> None:
    plain = json.loads(json.dumps(bad_report.to_dict()))
    assert plain["ok"] is False
    assert plain["imgsz"] == [320, 320]
    assert plain["splits"][0]["class_counts"] == [1]
    assert plain["findings"][0]["code"] == "degenerate-box"
    assert plain["findings"][0]["count"] == 8


def test_the_report_is_readable(bad_report: Report) -> None:
    output = io.StringIO()
    bad_report.render(Console(file=output, width=120))
    text = output.getvalue()
    assert "boxes without area or with numbers that are not finite (left out): 8" in text
    assert "train/a[red].png: c[at] at (5, 5, 5, 5)" in text
    assert "... 3 more" in text
    assert "there are errors" in text


def test_progress_is_told(tmp_path: Path) -> None:
    write_coco(tmp_path)
    told: list[tuple[str, int, int]] = []
    check_dataset(open_dataset(tmp_path), progress=lambda *step: told.append(step))
    assert told == [("pictures of train", 1, 2), ("pictures of train", 2, 2)]


def test_findings_come_errors_first(bad_report: Report) -> None:
    severities = [finding.severity for finding in bad_report.findings]
    assert severities == sorted(severities, key=("error", "warning", "info").index)
    assert {finding.code for finding in bad_report.findings} <= KINDS.keys()
