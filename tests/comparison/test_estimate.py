from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from detrofit.comparison import estimate
from detrofit.comparison.jobs import study_jobs
from detrofit.comparison.splits import prepare_data
from detrofit.comparison.study import load_study
from detrofit.data.demo import draw_demo_dataset


def test_an_estimate_counts_updates_validations_and_the_test_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_demo_dataset(tmp_path / "data", pictures={"train": 12, "val": 6, "test": 10}, size=(64, 64))
    values = {"model": "rtdetr-n", "data": str(tmp_path / "data"), "imgsz": 64, "workers": 0, "device": "cpu"}
    train = {"epochs": 4, "batch": 4, "val_every": 2}
    study = load_study({**values, "train": train, "seeds": 1, "variants": {"nwd": {"loss.box": "nwd"}}})
    job = study_jobs(study, prepare_data(tmp_path / "data", "val", "test", tmp_path / "study"))[0]
    done: list[str] = []

    def timed(work: Callable[[], object]) -> float:
        work()  # an update of the model, or a batch through it
        done.append("")
        return 1.0

    monkeypatch.setattr(estimate, "_timed", timed)
    assert estimate.estimated_seconds(job) == pytest.approx(4 * 3 + (2 * 6 + 10) / 4)
    assert len(done) == 2 + 2, "two updates and two batches were measured"
