from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from detrofit.data.demo import draw_demo_dataset
from detrofit.data.demo_scenes import SHAPES, draw_scene
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError

FEW = {"train": 3, "val": 2, "test": 1}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_scenes_hold_every_class_small_and_large_partly_hidden_objects() -> None:
    scenes = [draw_scene(np.random.default_rng(seed), 320, 320) for seed in range(40)]
    labels = np.concatenate([scene.labels for scene in scenes])
    boxes = np.concatenate([scene.boxes for scene in scenes])
    assert np.bincount(labels, minlength=len(SHAPES)).min() > 0.1 * len(labels)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    assert (areas < 32**2).sum() > 30 and (areas > 96**2).sum() > 20  # COCO's small and large
    assert (boxes >= 0).all() and (boxes <= 320).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_boxes_are_where_the_picture_differs_from_its_ground() -> None:
    scene = draw_scene(np.random.default_rng(1), 320, 320)
    vivid = scene.picture.max(-1).astype(int) - scene.picture.min(-1)
    inside = np.zeros((320, 320), dtype=bool)
    for left, top, right, bottom in scene.boxes.astype(int):
        inside[top:bottom, left:right] = True
    assert vivid[inside].mean() > 1.5 * vivid[~inside].mean()


@pytest.mark.parametrize("size", [(64, 64), (32, 200), (200, 48)])
def test_scenes_of_any_size_are_drawn(size: tuple[int, int]) -> None:
    for seed in range(10):
        scene = draw_scene(np.random.default_rng(seed), *size)
        assert scene.picture.shape == (*size, 3) and len(scene.boxes) == len(scene.labels)


def test_the_data_set_is_in_yolo_form_and_opens(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    path = draw_demo_dataset(
        tmp_path / "my demo", pictures=FEW, progress=lambda done, total: steps.append((done, total))
    )
    assert path == tmp_path / "my demo" / "data.yaml" and steps == [(done, 6) for done in range(1, 7)]
    assert yaml.safe_load(path.read_text())["names"] == dict(enumerate(SHAPES))
    dataset = open_dataset(path)
    for split, number in FEW.items():
        index = dataset.split(split)
        assert len(index) == number and index.class_names == SHAPES
        assert index.widths.tolist() == [320] * number and len(index.boxes_xyxy) > 2 * number
    pictures = [picture.read_bytes() for picture in path.parent.rglob("*.jpg")]
    assert len(set(pictures)) == 6


def test_the_seed_decides_everything(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in "abc"]
    for folder, seed in zip(folders, (1, 1, 2), strict=True):
        draw_demo_dataset(folder, seed, pictures=FEW, size=(64, 96))
    assert contents(folders[0]) == contents(folders[1])
    assert contents(folders[0]) != contents(folders[2])


def test_a_folder_that_exists_is_left_alone_and_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(DetrofitError, match="mine exists already"):
        draw_demo_dataset(tmp_path / "mine", pictures=FEW)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_demo_dataset(tmp_path / "new", pictures=FEW, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
