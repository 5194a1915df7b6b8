"""Whole grafts on a tiny model and drawn pictures."""

from __future__ import annotations

import json

import pytest
import torch

from detrofit import DetrofitError, load
from detrofit.distillation.local import LocalTraining
from detrofit.grafting import score, workshop
from detrofit.grafting.graft import graft, kendall_tau
from detrofit.grafting.results import PAGE, RESULTS
from tests.grafting.conftest import SLOT, quick


@pytest.fixture(scope="module")
def done(model_file, drawn, tmp_path_factory):
    """A finished graft, for the tests that only look."""
    out = tmp_path_factory.mktemp("a graft")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "LEAST_AP", -1.0)
        patch.setattr(score, "SURE", -1e9)
        return graft(model_file, drawn, out, quick("0.999xparams"))


def test_a_graft_leaves_everything_that_was_found(done, model_file):
    results = json.loads((done.folder / RESULTS).read_text())
    assert results == json.loads(json.dumps(done.results))
    assert [each["key"] for each in results["candidates"]] == [
        f"{SLOT}=none",
        f"{SLOT}=extradw+expand=1.0",
        "encoder.fusion_block0=none",
        "encoder.fusion_block0=csp-rep+blocks=2",
    ]
    for each in results["candidates"]:
        assert each["score"]["distance"] > 0 and each["score"]["distance_error"] > 0
        assert each["cost"]["parameters"] != results["teacher"]["cost"]["parameters"]
        assert each["cost"]["ratio_low"] <= each["cost"]["ratio"] <= each["cost"]["ratio_high"]
    assert results["norms_alone"]["distance"] > 0
    assert results["teacher"]["score"]["loss"] == 0 == results["teacher"]["score"]["loss_error"]
    assert results["search"]["looks"] == 3 + 4 + len(results["assembled"])
    assert len(results["assembled"]) == 2 and results["winner"].startswith("graft-")
    limit = 0.999 * results["teacher"]["cost"]["parameters"]
    assert all(each["cost"]["parameters"] <= limit for each in results["assembled"])
    page = (done.folder / PAGE).read_text()
    assert results["winner"] in page and "Every candidate tried" in page and "<script src" not in page

    best = load(done.best)
    assert done.best.parent == done.folder / "front"
    chosen = next(each for each in results["assembled"] if each["name"] == results["winner"])
    teacher = load(model_file)
    grafted = {key.split("=")[0] for key in chosen["keys"]}
    changed = {name for name, tensor in best.state_dict().items()
               if name not in teacher.state_dict() or not torch.equal(tensor, teacher.state_dict()[name])}  # fmt: skip
    weights = {name for name in changed if "running" not in name and "num_batches" not in name}
    units = tuple({SLOT: SLOT, "encoder.fusion_block0": "encoder.fusion.top_down.stride16"}[each] for each in grafted)
    assert weights <= {name for name in weights if name.startswith(units)}


def test_a_budget_that_nothing_meets_names_the_nearest(done, model_file, drawn, without_gates, monkeypatch):
    monkeypatch.setattr(LocalTraining, "learn", lambda *arguments: pytest.fail("another budget asks no training again"))
    with pytest.raises(DetrofitError, match=r"nothing meets the budget 0\.1xparams: the nearest is .*Mparams .*=none"):
        graft(model_file, drawn, done.folder, quick("0.1xparams"))
    with pytest.raises(DetrofitError, match=r"nothing meets the budget 0\.001ms: the nearest is .* ms \(.*; all meas"):
        graft(model_file, drawn, done.folder, quick("0.001ms"))


def test_a_folder_holds_one_graft(done, model_file, drawn):
    with pytest.raises(DetrofitError, match="holds a graft with another 'settings'; choose another --out"):
        graft(model_file, drawn, done.folder, quick("0.9x", steps=5))


def test_a_teacher_that_finds_nothing_is_one_line(model_file, drawn, tmp_path):
    with pytest.raises(DetrofitError, match=r"the AP of .* on 'val' is 0\.0.*: there is nothing to imitate; train it"):
        graft(model_file, drawn, tmp_path, quick("0.9x"))


def test_a_search_split_too_small_for_the_noise_is_one_line(model_file, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "LEAST_AP", -1.0)
    monkeypatch.setattr(score, "SURE", 1e9)
    with pytest.raises(DetrofitError, match=r"'val' \(6 pictures\) is too small for the noise: .* ± .*larger --search"):
        graft(model_file, drawn, tmp_path, quick("0.9x"))


def test_other_mistakes_are_one_line(model_file, drawn, tmp_path):
    with pytest.raises(DetrofitError, match=r"teacher\.safetensors has no slot 'backbone\.stage9"):
        graft(model_file, drawn, tmp_path, quick(slots=("backbone.stage9.block",)))
    with pytest.raises(DetrofitError, match="has no split 'vall'"):
        graft(model_file, drawn, tmp_path, quick(search_split="vall"))
    with pytest.raises(DetrofitError, match="does not exist"):
        graft(tmp_path / "none.safetensors", drawn, tmp_path, quick())
    assert not (tmp_path / "library").exists()


def test_a_bench_file_of_a_device_counts_and_must_be_whole(done, model_file, drawn, without_gates, tmp_path):
    steps = {"median": 5.0, "low": 4.9, "high": 5.1}
    names = [file.name for file in (done.folder / "exports").glob("*.safetensors")]
    entries = [{"file": f"D:\\bench\\{name}", "steps": {"total": steps if "none" not in name else
               {key: value - 1 for key, value in steps.items()}}} for name in names]  # fmt: skip
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps({"machine": {"processor": "device"}, "files": entries}))
    result = graft(model_file, drawn, done.folder, quick("0.85x", bench=bench))
    assert result.results["machine"] == {"processor": "device"}
    costs = {each["key"]: each["cost"]["latency"] for each in result.results["candidates"]}
    assert costs[f"{SLOT}=none"] == 4.0 and costs[f"{SLOT}=extradw+expand=1.0"] == 5.0
    bench.write_text(json.dumps({"machine": {}, "files": entries[:1]}))
    with pytest.raises(DetrofitError, match=r"lacks \d of the models, first '.*': time all files of .*exports"):
        graft(model_file, drawn, done.folder, quick("0.85x", bench=bench))


def test_a_runtime_that_is_not_installed_is_known_before_any_work(model_file, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(workshop, "installed_runtimes", lambda: ["torch"])
    with pytest.raises(DetrofitError, match=r"this needs 'openvino', which is not installed: pip install"):
        graft(model_file, drawn, tmp_path / "out", quick("0.9x", runtime="openvino"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_free_knobs_come_first_and_no_budget_gives_a_front(model_file, drawn, tmp_path, without_gates):
    settings = quick(slots=(SLOT,), candidates=("none",), knobs=True, runtime="onnxruntime")
    results = graft(model_file, drawn, tmp_path / "a folder", settings).results
    assert results["knobs"] and all(0 < each["ratio"] < 2 and each["ap"] >= 0 for each in results["knobs"])
    assert all(each["keys"] == [f"{SLOT}=none"] for each in results["assembled"])
    assert "no graft" in (tmp_path / "a folder" / PAGE).read_text()


def test_kendalls_tau_has_an_interval():
    found = kendall_tau(range(10), [0, 1, 2, 3, 4, 5, 6, 7, 9, 8])
    assert found["tau"] == pytest.approx(43 / 45) and found["low"] < found["tau"] <= found["high"] <= 1
