from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detrofit.data.demo_scenes import draw_scene
from detrofit.data.images import LabelledPicture
from detrofit.data.transforms import (
    NO_AUGMENTATION,
    Augmentation,
    Recipe,
    as_target,
    fitted,
    multiscale_sizes,
    resize_batch,
    size_of_step,
)

SIZE = (48, 64)


def read(image: int) -> LabelledPicture:
    scene = draw_scene(np.random.default_rng(image), 90, 120)
    return LabelledPicture(torch.from_numpy(scene.picture).permute(2, 0, 1), scene.boxes, scene.labels)


def draw(augmentation: Augmentation, image: int = 0, seed: int = 0, strong: bool = True) -> LabelledPicture:
    return Recipe(read, 5, SIZE, augmentation).picture(image, np.random.default_rng(seed), strong)


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(mosaic=0.5, mixup=0.5, vertical_flip=0.5)])
def test_pictures_have_the_models_size_and_boxes_inside(augmentation: Augmentation) -> None:
    for seed in range(30):
        picture = draw(augmentation, image=seed % 5, seed=seed)
        assert picture.pixels.shape == (3, *SIZE) and picture.pixels.dtype == torch.uint8
        assert picture.boxes.dtype == np.float32 and picture.labels.dtype == np.int64
        assert len(picture.boxes) == len(picture.labels)
        assert (picture.boxes >= 0).all() and (picture.boxes <= (64, 48, 64, 48)).all()
        assert (picture.boxes[:, 2:] > picture.boxes[:, :2]).all()


def test_the_same_generator_gives_the_same_picture_whatever_the_global_one_holds() -> None:
    torch.manual_seed(1)
    first = draw(Augmentation(mosaic=0.5, mixup=0.5), seed=7)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second = draw(Augmentation(mosaic=0.5, mixup=0.5), seed=7)
    assert torch.equal(first.pixels, second.pixels) and np.array_equal(first.boxes, second.boxes)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(first.pixels, draw(Augmentation(), seed=8).pixels)


def test_without_augmentation_the_whole_picture_is_resized() -> None:
    picture, expected = draw(NO_AUGMENTATION), fitted(read(0), SIZE)
    assert torch.equal(picture.pixels, expected.pixels) and np.array_equal(picture.boxes, expected.boxes)
    assert np.allclose(picture.boxes, read(0).boxes * (64 / 120, 48 / 90, 64 / 120, 48 / 90), atol=1e-4)


@pytest.mark.parametrize("size", [(48, 64), (200, 300), (91, 60)])
def test_evaluation_resizes_as_pillow_does(size: tuple[int, int]) -> None:
    """What runs a shipped model has no torch and resizes with Pillow: it must see the same picture."""
    source = read(1)
    image = Image.fromarray(source.pixels.permute(1, 2, 0).numpy())
    expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR), dtype=int)
    difference = np.abs(fitted(source, size).pixels.permute(1, 2, 0).numpy() - expected)
    assert difference.max() <= 1


def test_the_last_epochs_only_flip() -> None:
    everything = Augmentation(1, 1, 1, horizontal_flip=1, mosaic=1, mixup=1)
    assert torch.equal(draw(everything, strong=False).pixels, fitted(read(0), SIZE).pixels.flip(-1))


@pytest.mark.parametrize("name", ["photometric", "zoom_out", "iou_crop", "horizontal_flip", "vertical_flip"])
def test_each_probability_turns_its_own_change_on(name: str) -> None:
    only = replace(NO_AUGMENTATION, **{name: 1.0})
    unchanged = fitted(read(0), SIZE).pixels
    assert any(not torch.equal(draw(only, seed=seed).pixels, unchanged) for seed in range(5))


def test_mosaic_and_mixup_bring_other_pictures_in() -> None:
    def labels(augmentation: Augmentation) -> int:
        return sum(len(draw(augmentation, seed=seed).labels) for seed in range(10))

    alone = labels(NO_AUGMENTATION)
    assert labels(replace(NO_AUGMENTATION, mixup=1.0)) > 1.5 * alone
    assert labels(replace(NO_AUGMENTATION, mosaic=1.0)) > 1.5 * alone


def test_a_target_is_what_the_model_learns() -> None:
    picture = LabelledPicture(
        torch.zeros((3, 50, 100), dtype=torch.uint8), np.array([[10, 5, 30, 25]], dtype=np.float32), np.array([2])
    )
    target = as_target(picture, 4, (500, 1000))
    assert target["labels"].tolist() == [2] and target["labels"].dtype == torch.int64
    assert torch.allclose(target["boxes"], torch.tensor([[0.2, 0.3, 0.2, 0.4]]))
    assert target["image_index"] == 4 and target["size"] == (500, 1000)
    empty = as_target(LabelledPicture(picture.pixels, np.zeros((0, 4), np.float32), np.zeros(0, np.int64)), 0, (1, 1))
    assert empty["boxes"].shape == (0, 4) and empty["labels"].shape == (0,)


def test_multiscale_sizes_of_640_are_the_published_ones() -> None:
    sides = [height for height, width in multiscale_sizes((640, 640)) if height == width]
    assert sides == [480, 512, 544, 576, 608, 640, 640, 640, 672, 704, 736, 768, 800]


@given(st.integers(1, 40), st.integers(1, 40))
def test_multiscale_sizes_keep_to_the_stride_and_near_the_base(height: int, width: int) -> None:
    base = (32 * height, 32 * width)
    sizes = multiscale_sizes(base)
    assert sizes.count(base) >= 3
    for size in sizes:
        assert all(side % 32 == 0 and side > 0 for side in size)
        assert all(abs(side - whole) <= 0.25 * whole + 32 for side, whole in zip(size, base, strict=True))


def test_the_size_of_a_step_depends_on_seed_and_step_alone_and_all_sizes_occur() -> None:
    sizes = multiscale_sizes((320, 320))
    chosen = [size_of_step(sizes, 3, step) for step in range(300)]
    assert chosen == [size_of_step(sizes, 3, step) for step in range(300)]
    assert set(chosen) == set(sizes)
    assert chosen != [size_of_step(sizes, 4, step) for step in range(300)]


def test_a_batch_is_resized_or_left_as_it_is() -> None:
    images = torch.rand(2, 3, 64, 96)
    assert resize_batch(images, (64, 96)) is images
    smaller = resize_batch(images, (32, 64))
    assert smaller.shape == (2, 3, 32, 64) and smaller.min() >= 0 and smaller.max() <= 1
