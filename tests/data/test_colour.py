from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional

from detrofit.data.colour import BRIGHTNESS, CONTRAST, HUE, SATURATION, ColourChange, change_colours, draw_colour_change

PIXELS = torch.randint(0, 256, (3, 8, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_each_change_has_the_given_probability_and_range() -> None:
    generator = np.random.default_rng(0)
    draws = [draw_colour_change(generator, 0.3) for _ in range(2000)]
    for name, (least, most) in {
        "brightness": BRIGHTNESS,
        "contrast": CONTRAST,
        "saturation": SATURATION,
        "hue": HUE,
    }.items():
        values = [getattr(draw, name) for draw in draws if getattr(draw, name) is not None]
        assert len(values) / 2000 == pytest.approx(0.3, abs=0.04)
        assert least <= min(values) and max(values) <= most
        assert np.mean(values) == pytest.approx((least + most) / 2, abs=0.05 * (most - least))
    assert np.mean([draw.channels is not None for draw in draws]) == pytest.approx(0.3, abs=0.04)


def test_no_change_leaves_every_bit() -> None:
    assert torch.equal(change_colours(PIXELS, draw_colour_change(np.random.default_rng(0), 0.0)), PIXELS)


def test_contrast_comes_before_or_after_the_other_changes() -> None:
    def changed(contrast_first: bool) -> torch.Tensor:
        return change_colours(PIXELS, ColourChange(1.1, 1.4, 0.6, None, contrast_first, [2, 0, 1]))

    last = functional.adjust_saturation(functional.adjust_brightness(PIXELS, 1.1), 0.6)
    assert torch.equal(changed(False), functional.adjust_contrast(last, 1.4)[[2, 0, 1]])
    assert not torch.equal(changed(True), changed(False))
