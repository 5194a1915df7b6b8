from __future__ import annotations

import numpy as np
import pytest

from detrofit.runtime.preprocess import resize_picture, to_batch, to_images


def test_pictures_of_any_size_become_one_batch() -> None:
    batch = to_batch([np.zeros((5, 7, 3), np.uint8), np.full((90, 1, 3), 255, np.uint8)], (8, 16))
    assert batch.shape == (2, 8, 16, 3) and batch.dtype == np.uint8
    assert (batch[0] == 0).all() and (batch[1] == 255).all()


def test_one_picture_of_the_right_size_is_not_copied() -> None:
    picture = np.zeros((8, 16, 3), np.uint8)
    assert np.shares_memory(to_batch([picture], (8, 16)), picture)


def test_images_are_in_0_to_1() -> None:
    images = to_images(np.array([[[[0, 51, 255]]]], np.uint8))
    assert images.dtype == np.float32 and images.flags.c_contiguous
    np.testing.assert_array_equal(images, np.array([0, 0.2, 1], np.float32).reshape(1, 3, 1, 1))


def test_channels_stay_in_order_and_sizes_are_height_then_width() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    picture[:5, :, 0] = 255  # red above
    images = to_images(to_batch([picture], (4, 2)))
    assert images[0, 0, 0].min() == 1 and images[0, 1:].max() == 0 and images[0, 0, 3].max() == 0


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (37, 501), (1, 1)])
@pytest.mark.parametrize("to", [(320, 320), (256, 416)])
def test_equals_the_resize_of_training_within_one_level(size: tuple[int, int], to: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    functional = pytest.importorskip("torchvision.transforms.v2.functional", reason="torchvision is not installed")
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    tensor = torch.from_numpy(picture).permute(2, 0, 1)
    reference = functional.resize(tensor, list(to), antialias=True).permute(1, 2, 0).numpy()
    difference = np.abs(resize_picture(picture, to).astype(int) - reference.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.02, "they round alike but for one value in a hundred, here of pure noise"
