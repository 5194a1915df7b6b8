from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.results import Detections
from detrofit.runtime.sources import Picture, Video
from detrofit.runtime.writers import KINDS, ResultWriters, unique_stems
from tests.runtime.videos import write_video

NAMES, IDS = ("cat", "狗"), (7, 3)
PICTURE = Picture("shots/a b.png", np.zeros((40, 60, 3), np.uint8))
FILM = Video("films/c.mov", "films/c.mov", "file")


def found(index: int, frame: int | None = None, count: int = 2, size: tuple[int, int] = (40, 60)) -> Detections:
    return Detections(
        boxes_xyxy=np.array([[10, 20, 30, 40], [0, 0, 60, 20]], np.float32)[:count],
        scores=np.array([0.9, 0.25], np.float32)[:count],
        labels=np.array([1, 0])[:count],
        class_names=NAMES,
        size=size,
        source=(PICTURE, FILM)[index].name,
        source_index=index,
        frame=frame,
        seconds=None if frame is None else frame / 10,
        picture=np.full((*size, 3), 128, np.uint8),
    )


RESULTS = [found(0), found(1, 0), found(1, 2, count=0), found(1, 4)]


def write(folder: Path, kinds: Sequence[str] = KINDS, results: Sequence[Detections] = RESULTS) -> list[str]:
    """The names of all files that were written."""
    with ResultWriters(folder, kinds, [PICTURE, FILM], NAMES, IDS) as writers:
        for each in results:
            writers.add(each)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_form_has_its_files(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    labels = ("00001_a b", "00002_c_000000", "00002_c_000002", "00002_c_000004")
    assert write(tmp_path / "out") == sorted(
        ["00001_a b.jpg", "00002_c.mp4", "classes.txt", "predictions.csv", "predictions.json"]
        + [f"labels/{name}.txt" for name in labels]
    )


def test_coco_names_pictures_frames_and_original_ids(tmp_path: Path) -> None:
    write(tmp_path, ["coco"])
    content = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert content["images"] == [
        {"id": 1, "file_name": PICTURE.name, "height": 40, "width": 60},
        {"id": 2, "file_name": FILM.name, "height": 40, "width": 60, "frame": 0, "seconds": 0.0},
        {"id": 3, "file_name": FILM.name, "height": 40, "width": 60, "frame": 2, "seconds": 0.2},
        {"id": 4, "file_name": FILM.name, "height": 40, "width": 60, "frame": 4, "seconds": 0.4},
    ]
    assert [(each["image_id"], each["category_id"]) for each in content["annotations"]] == [
        (1, 3), (1, 7), (2, 3), (2, 7), (4, 3), (4, 7),
    ]  # fmt: skip
    first = content["annotations"][0]
    assert (first["bbox"], first["area"], first["iscrowd"]) == ([10, 20, 20, 20], 400, 0)
    assert [each["id"] for each in content["annotations"]] == [1, 2, 3, 4, 5, 6], "or COCO's own reader takes no file"
    assert content["categories"] == [{"id": 7, "name": "cat"}, {"id": 3, "name": "狗"}]


def test_csv_and_yolo_hold_every_detection(tmp_path: Path) -> None:
    write(tmp_path, ["csv", "yolo"])
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["source"], row["frame"], row["seconds"], row["name"]) for row in rows[1:3]] == [
        (PICTURE.name, "", "", "cat"),
        (FILM.name, "0", "0.0", "狗"),
    ]
    assert len(rows) == 6
    assert (tmp_path / "classes.txt").read_text(encoding="utf-8") == "cat\n狗\n"
    assert (tmp_path / "labels" / "00002_c_000002.txt").read_text() == ""
    assert len((tmp_path / "labels" / "00001_a b.txt").read_text().splitlines()) == 2


def test_an_annotated_video_keeps_its_times_and_its_size(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    odd = (41, 59)
    results = [found(1, frame, size=odd) for frame in (0, 2, 4)] + [found(1, 6, size=(80, 120))]
    write(tmp_path, ["plot"], results)
    with av.open(str(tmp_path / "00002_c.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [float(frame.time) for frame in frames] == pytest.approx([0, 0.2, 0.4, 0.6], abs=1e-3)
    assert {(frame.height, frame.width) for frame in frames} == {(42, 60)}, "colours come in pairs of pixels"
    pixels = frames[1].to_ndarray(format="rgb24").astype(int)
    assert abs(pixels[25, 45] - 128).max() < 12 and abs(pixels[30, 10] - 128).max() > 40, "a box on grey"


def test_times_that_begin_anew_go_on_in_an_annotated_video(tmp_path: Path) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    again = [replace(found(1, frame), seconds=seconds) for frame, seconds in ((0, 9.0), (1, 9.1), (2, 0.0), (3, 0.1))]
    write(tmp_path, ["plot"], again)
    with av.open(str(tmp_path / "00002_c.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert np.diff(times) == pytest.approx([0.1, 0.04, 0.1], abs=1e-3)


def test_labels_of_a_data_set_are_not_overwritten(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / "a.jpg")
    own = tmp_path / "labels" / "a.txt"
    sources = [Picture(str(tmp_path / "images" / "a.jpg"), tmp_path / "images" / "a.jpg")]
    ResultWriters(tmp_path, ["yolo"], sources, NAMES, IDS)
    own.write_text("0 0.5 0.5 1 1")
    with pytest.raises(DetrofitError, match=r"take the place of the labels .*a\.txt; give another --out"):
        ResultWriters(tmp_path, ["yolo"], sources, NAMES, IDS)
    ResultWriters(tmp_path, ["csv"], sources, NAMES, IDS)
    ResultWriters(tmp_path / "out", ["yolo"], sources, NAMES, IDS)


def test_nothing_incomplete_stays_behind(tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    with (
        pytest.raises(RuntimeError, match="stop"),
        ResultWriters(tmp_path, KINDS, [PICTURE, FILM], NAMES, IDS) as writers,
    ):
        for each in RESULTS:
            writers.add(each)
        raise RuntimeError("stop")
    left = {path.stem for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"classes", "00001_a b", "00002_c_000000", "00002_c_000002", "00002_c_000004"}, "each is whole"


def test_without_results_there_is_no_folder(tmp_path: Path) -> None:
    assert write(tmp_path / "out", results=[]) == [] and not (tmp_path / "out").exists()


def test_an_unknown_form_and_a_source_in_the_way_are_mistakes(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"saved as 'yoloo'; known are .*did you mean 'yolo'"):
        ResultWriters(tmp_path, ["yoloo"], [PICTURE], NAMES, IDS)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.jpg")
    sources = [Picture(str(tmp_path / "a.jpg"), tmp_path / "a.jpg")]
    with pytest.raises(DetrofitError, match=r"take the place of .*a\.jpg"):
        ResultWriters(tmp_path, ["plot"], sources, NAMES, IDS)
    ResultWriters(tmp_path, ["csv"], sources, NAMES, IDS)
    film = write_video(tmp_path / "c.mp4", frames=1)
    with pytest.raises(DetrofitError, match=r"take the place of .*c\.mp4"):
        ResultWriters(tmp_path, ["plot"], [Video(str(film), str(film), "file")], NAMES, IDS)


def test_file_names_fit_every_system() -> None:
    sources = [
        Video("rtsp://me@host:554/stream/1?low", "", "address"), Video("camera 0", "0", "camera"),
        Picture("image 0", b""), Picture("a/b:c?.jpg", b""), Video("standard input", "-", "input"),
    ]  # fmt: skip
    assert unique_stems(sources) == ["00001_1", "00002_camera 0", "00003_image 0", "00004_b_c_", "00005_standard input"]
    assert unique_stems(sources[:1]) == ["1"]


def test_pictures_of_different_names_keep_them() -> None:
    names = ["a/1.jpg", "a/2.jpg", "b/A.jpg"]
    pictures = [Picture(name, b"") for name in names]
    assert unique_stems(pictures) == ["1", "2", "A"], "so that labels lie beside their pictures under one name"
    assert unique_stems([*pictures, Picture("c/a.png", b"")]) == ["00001_1", "00002_2", "00003_A", "00004_a"]
    assert unique_stems([pictures[0], Video("1.mp4", "1.mp4", "file")]) == ["00001_1", "00002_1"]
