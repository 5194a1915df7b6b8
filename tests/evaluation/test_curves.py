from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import plot_learning_curves, read_metrics

ROWS = [
    {"epoch": epoch, "loss": 5 / epoch, "loss_box": 1.0, "lr": 1e-4, "AP": None if epoch == 1 else 0.1, "note": "x"}
    for epoch in (1, 2, 3)
]


def test_a_panel_for_each_kind_of_number_that_there_is(tmp_path: Path) -> None:
    plot_learning_curves(ROWS, tmp_path / "all.png")
    plot_learning_curves([{"epoch": 1, "train/loss": 2.0}], tmp_path / "loss.png")
    with Image.open(tmp_path / "all.png") as three, Image.open(tmp_path / "loss.png") as one:
        assert three.width == pytest.approx(3 * one.width, rel=0.01)


def test_nothing_measured_yet_is_an_empty_plot(tmp_path: Path) -> None:
    plot_learning_curves([], tmp_path / "curves.png")
    plot_learning_curves([{"epoch": 1, "AP": None}], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_an_unfinished_last_line_is_skipped_and_a_broken_one_inside_is_named(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    lines = [json.dumps(row) for row in ROWS]
    file.write_text("\n".join([*lines, '{"epoch": 4, "lo']))
    assert read_metrics(file) == ROWS
    file.write_text("\n".join([lines[0], "broken", lines[1]]))
    with pytest.raises(DetrofitError, match="line 2"):
        read_metrics(file)
    with pytest.raises(DetrofitError, match="no metrics to read"):
        read_metrics(tmp_path / "absent.jsonl")
