"""The whole journey, in its smallest form: train, graft, fine-tune, study."""

from __future__ import annotations

import json

import pytest

from detrofit import load
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.grafting.results import RESULTS
from detrofit.grafting.search import search
from tests.grafting.conftest import quick
from tests.training.conftest import TINY


@pytest.mark.slow
def test_from_an_untrained_model_to_a_study(drawn, tmp_path, without_gates):
    experiment = load_experiment(merge_dotted({"data": drawn, "weights": "none"}, {**TINY, "train.epochs": 1}))
    settings = quick("0.999xparams", candidates=("none",), assemblies=1, finish_epochs=1)
    result = search(experiment, tmp_path / "a search", settings, seeds=1)
    results = json.loads((result.graft.folder / RESULTS).read_text())
    assert results["winner"] != "keep" and results["finished_teacher"]["ap"] >= 0
    assert all(each["finished"] for each in results["assembled"] if each["file"])
    best = load(result.graft.best)
    assert "none" in {best.slots[address]["part"] for address in best.retrofit}
    study = json.loads((result.study / "results.json").read_text())
    assert [line["name"] for line in study["variants"]] == ["base", "grafted"]
    assert all(line["done"] == 1 for line in study["variants"]), study["variants"]
    again = search(experiment, tmp_path / "a search", settings, seeds=1)
    assert again.graft.results["candidates"] == results["candidates"]
