"""Photometric distortion (SSD, arXiv:1512.02325): brightness, contrast, saturation, hue and the order of channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor
from torchvision.transforms.v2 import functional

BRIGHTNESS = (0.875, 1.125)
CONTRAST = (0.5, 1.5)
SATURATION = (0.5, 1.5)
HUE = (-0.05, 0.05)  # in turns of the colour circle


@dataclass(frozen=True)
class ColourChange:
    """One draw of the distortion; None leaves that property as it is."""

    brightness: float | None
    contrast: float | None
    saturation: float | None
    hue: float | None
    contrast_first: bool
    channels: list[int] | None


def draw_colour_change(generator: np.random.Generator, probability: float) -> ColourChange:
    """Each of the five changes with that probability, its strength uniform in its range."""
    wanted = generator.random(5) < probability
    brightness, contrast, saturation, hue = (
        float(generator.uniform(*limits)) if change else None
        for change, limits in zip(wanted, (BRIGHTNESS, CONTRAST, SATURATION, HUE), strict=False)
    )
    contrast_first = bool(generator.random() < 0.5)
    channels = generator.permutation(3).tolist() if wanted[4] else None
    return ColourChange(brightness, contrast, saturation, hue, contrast_first, channels)


def change_colours(pixels: Tensor, change: ColourChange) -> Tensor:
    """Pixels uint8 `[3, H, W]` after the changes; contrast is taken about the mean grey of these pixels."""
    if change.brightness is not None:
        pixels = functional.adjust_brightness(pixels, change.brightness)
    if change.contrast is not None and change.contrast_first:
        pixels = functional.adjust_contrast(pixels, change.contrast)
    if change.saturation is not None:
        pixels = functional.adjust_saturation(pixels, change.saturation)
    if change.hue is not None:
        pixels = functional.adjust_hue(pixels, change.hue)
    if change.contrast is not None and not change.contrast_first:
        pixels = functional.adjust_contrast(pixels, change.contrast)
    return pixels if change.channels is None else functional.permute_channels(pixels, change.channels)
