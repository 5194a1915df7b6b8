from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from detrofit.pages.colours import SERIES, THEME, Series, css_variables

# Linear RGB as seen without one kind of cone (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]
    ),
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    low, high = sorted(float(TO_XYZ[1] @ linear(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = TO_XYZ @ rgb.clip(0, 1) / WHITE
    x, y, z = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_text_and_series_are_told_from_the_paper(mode: int) -> None:
    papers = [THEME[name][mode] for name in ("paper", "panel")]
    for paper in papers:
        assert all(contrast(THEME[name][mode], paper) >= 4.5 for name in ("ink", "soft", "good", "bad"))
    assert all(contrast(pair[mode], papers[0]) >= 3 for pair in SERIES)


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_series_are_told_from_each_other(mode: int, sight: str) -> None:
    seen = [lab(SIGHT[sight] @ linear(pair[mode])) for pair in SERIES]
    assert min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 15


def test_a_colour_of_a_drawing_names_one_variable() -> None:
    light = [pair[0] for pair in css_variables().values()]
    assert len(set(light)) == len(light)


def test_grey_is_for_the_first_alone_and_looks_do_not_repeat_early() -> None:
    looks = [(each.colour, each.marker, each.dash) for each in (Series("", number) for number in range(24))]
    assert len(set(looks)) == 24
    assert sum(colour == SERIES[0][0] for colour, _, _ in looks) == 1
