"""Augmentation of the published recipe: every draw for a picture comes from its own generator, in one order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from detrofit.data import geometry
from detrofit.data.colour import change_colours, draw_colour_change
from detrofit.data.images import LabelledPicture
from detrofit.data.mosaic import four_pictures, mixed
from detrofit.parts.boxes import xyxy_to_cxcywh
from detrofit.randomness import derive_seed

Target: TypeAlias = dict[str, Any]
SIZE_MULTIPLE = 32  # of the sizes that multi-scale training chooses from: the largest stride
MIXUP_SHARPNESS = 32.0  # both parameters of the beta distribution of the first picture's share: close to one half


@dataclass(frozen=True)
class Augmentation:
    """Probabilities, 0..1, of what is done to a training picture; the defaults are the published recipe.

    All but the flips are strong: they are left out in the last epochs. `photometric` is that of each change of colour.
    `fill` is the grey value, 0..255, beyond the picture.
    """

    photometric: float = 0.5
    zoom_out: float = 0.5
    iou_crop: float = 0.8
    horizontal_flip: float = 0.5
    vertical_flip: float = 0.0
    mosaic: float = 0.0
    mixup: float = 0.0
    fill: int = 0


PUBLISHED_AUGMENTATION = Augmentation()
NO_AUGMENTATION = Augmentation(0, 0, 0, 0)


@dataclass(frozen=True)
class Recipe:
    """How training pictures of one size (height, width) are made out of a data set of `num_images` pictures.

    `read` gives picture number i with its boxes in pixels.
    """

    read: Callable[[int], LabelledPicture]
    num_images: int
    size: tuple[int, int]
    augmentation: Augmentation = PUBLISHED_AUGMENTATION

    def picture(self, image: int, generator: np.random.Generator, strong: bool = True) -> LabelledPicture:
        """Picture number `image`, augmented, at the recipe's size; without the strong changes if not `strong`."""
        settings = self.augmentation
        chosen = self._base(image, generator, strong)
        if strong and _happens(generator, settings.mixup):
            partner = self._base(self._any_image(generator), generator, strong)
            chosen = mixed(chosen, partner, float(generator.beta(MIXUP_SHARPNESS, MIXUP_SHARPNESS)))
        if _happens(generator, settings.horizontal_flip):
            chosen = geometry.flip_horizontally(chosen)
        return geometry.flip_vertically(chosen) if _happens(generator, settings.vertical_flip) else chosen

    def _base(self, image: int, generator: np.random.Generator, strong: bool) -> LabelledPicture:
        if not strong:
            return fitted(self.read(image), self.size)
        settings = self.augmentation
        recolour = partial(change_colours, change=draw_colour_change(generator, settings.photometric))
        is_mosaic = _happens(generator, settings.mosaic)
        source = self._mosaic(image, generator) if is_mosaic else self.read(image)
        view = geometry.whole(source)
        if _happens(generator, settings.zoom_out) and not is_mosaic:  # a mosaic has already made its objects small
            view = geometry.zoom_out(generator, view)
        if _happens(generator, settings.iou_crop):
            view = geometry.iou_crop(generator, view, source.boxes)
        return geometry.render(source, view, self.size, settings.fill, recolour)

    def _mosaic(self, image: int, generator: np.random.Generator) -> LabelledPicture:
        images = [image, *(self._any_image(generator) for _ in range(3))]
        centre = 0.5 + generator.random(2)
        pictures = [fitted(self.read(each), self.size) for each in images]
        return four_pictures(pictures, (float(centre[0]), float(centre[1])))

    def _any_image(self, generator: np.random.Generator) -> int:
        return int(generator.integers(self.num_images))


def _happens(generator: np.random.Generator, probability: float) -> bool:
    return bool(generator.random() < probability)


def fitted(picture: LabelledPicture, size: tuple[int, int]) -> LabelledPicture:
    """The whole picture resized to `size` (height, width) without keeping the ratio."""
    return geometry.render(picture, geometry.whole(picture), size)


def as_target(picture: LabelledPicture, image: int, original_size: tuple[int, int]) -> Target:
    """What the model learns: `labels` int64 `[n]`, `boxes` float32 `[n, 4]` cxcywh in 0..1, `image_index`, `size`."""
    extent = torch.tensor([picture.width, picture.height] * 2, dtype=torch.float32)
    boxes = xyxy_to_cxcywh(torch.from_numpy(picture.boxes) / extent)
    return {"labels": torch.from_numpy(picture.labels), "boxes": boxes, "image_index": image, "size": original_size}


def multiscale_sizes(size: tuple[int, int], spread: float = 0.25, base_repeats: int = 3) -> list[tuple[int, int]]:
    """The sizes (height, width) that multi-scale training chooses from, all multiples of 32 but the base.

    The longer side goes from `1 - spread` to `1 + spread` of the base in steps of 32, rounded outwards (160 gives 96 to
    224), the other in proportion; the base itself stands `base_repeats` times. 640 gives the published 480 to 800.
    """
    longer = max(size)
    base = round(longer / SIZE_MULTIPLE)
    steps = base - int(longer * (1 - spread) / SIZE_MULTIPLE)
    scaled = [_scaled(size, (base + step) / base) for step in range(-steps, steps + 1) if step]
    return sorted(scaled + [size] * base_repeats)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(round(side * scale / SIZE_MULTIPLE), 1) * SIZE_MULTIPLE for side in size)
    return height, width


def size_of_step(sizes: list[tuple[int, int]], seed: int, step: int) -> tuple[int, int]:
    """The size (height, width) of training step number `step`, the same in every process."""
    return sizes[derive_seed(seed, "size", step) % len(sizes)]


def resize_batch(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images float `[B, 3, H, W]` at another size (height, width), bilinear, antialiased when they shrink."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
