"""Panels whose words come from a data set."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from detrofit.explanation.panels import Panel, PanelBox, save_panels


def test_names_are_no_formulas_and_may_be_in_any_script(tmp_path: Path) -> None:
    box = PanelBox((1, 10, 30, 30), "$\\frac$ 红细胞 1.00")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        panel = Panel(np.zeros((40, 60, 3), np.uint8), "a$\\x$", [box])
        [file] = save_panels([[panel]], tmp_path / "a", formats=["svg"])
    text = file.read_text("utf-8")
    assert "$\\frac$ 红细胞 1.00" in text and "a$\\x$" in text
