"""Whole grafts on a tiny model and drawn pictures."""

from __future__ import annotations

import json
import re
import shutil
import sys
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from filelock import FileLock

from detrofit import DetrofitError, load
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.open import open_dataset
from detrofit.deployment.latency import FORMAT
from detrofit.distillation.local import LocalTraining
from detrofit.grafting import score, workshop
from detrofit.grafting.budget import BudgetError
from detrofit.grafting.cost import _export_all
from detrofit.grafting.graft import graft
from detrofit.grafting.results import PAGE, RESULTS
from detrofit.weights.model_file import read_info
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
    assert results["teacher"]["score"]["loss"] == 0 == results["teacher"]["score"]["loss_error"]
    assert results["search"]["looks"] == 2 + 4 + len(results["assembled"])
    assert len(results["assembled"]) >= 2 and results["winner"].startswith("graft-")
    limit = 0.999 * results["teacher"]["cost"]["parameters"]
    assert all(each["cost"]["parameters"] <= limit for each in results["assembled"])
    page = (done.folder / PAGE).read_text()
    assert not list(done.folder.glob("assemblies/*.pt")) and not (done.folder / "features").exists()
    assert results["winner"] in page and "Every candidate tried" in page and "<script src" not in page

    best = load(done.best)
    assert done.best.parent == done.folder / "front"
    chosen = next(each for each in results["assembled"] if each["name"] == results["winner"])
    info = read_info(done.best)
    assert (info.trained["val_AP"], info.threshold) == (chosen["score"]["ap"], chosen["score"]["threshold"])
    teacher = load(model_file)
    grafted = {key.split("=")[0] for key in chosen["keys"]}
    changed = {name for name, tensor in best.state_dict().items()
               if name not in teacher.state_dict() or not torch.equal(tensor, teacher.state_dict()[name])}  # fmt: skip
    weights = {name for name in changed if "running" not in name and "num_batches" not in name}
    units = tuple({SLOT: SLOT, "encoder.fusion_block0": "encoder.fusion.top_down.stride16"}[each] for each in grafted)
    assert weights <= {name for name in weights if name.startswith(units)}


def test_a_budget_that_nothing_meets_names_the_nearest(done, model_file, drawn, without_gates):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalTraining, "learn", lambda *arguments: pytest.fail("another budget asks no training again"))
        with pytest.raises(DetrofitError, match=r"meets the budget 0\.1xparams: the nearest is .*=none") as told:
            graft(model_file, drawn, done.folder, quick("0.1xparams"))
        with pytest.raises(DetrofitError, match=r"budget 0\.001ms: the nearest is .*ms \(.*; all measurements stay"):
            graft(model_file, drawn, done.folder, quick("0.001ms"))
        with pytest.raises(DetrofitError, match=r"nearest is [\d.]+ms \(\S+\) and [\d.]+Mparams \(\S+\) with") as both:
            graft(model_file, drawn, done.folder, quick("0.001ms", "0.001Mparams"))
    nearest = re.findall(r"[\d.]+(?:ms|Mparams)", str(both.value).partition("nearest")[2])
    graft(model_file, drawn, done.folder, quick(*nearest))  # both together can be asked for
    for named in re.findall(r"[\d.]+(?:Mparams|xparams)(?=[ )])", str(told.value).partition("nearest")[2]):
        results = graft(model_file, drawn, done.folder, quick(named)).results
        assert [each for each in results["assembled"] if each["name"] == results["winner"]], "it can be asked for"


def test_a_disk_too_small_for_the_exports_is_told_before_the_first(done, model_file, drawn, monkeypatch):
    opened = workshop.open_workshop(model_file, drawn, done.folder, quick())
    known = {key: (lambda: pytest.fail("nothing is made")) for key in ("keep", f"{SLOT}=none")}
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1e6))
    assert _export_all(opened, known)[0].keys() == known.keys(), "what is there needs no room"
    with pytest.raises(DetrofitError, match=r"100 exported models need .* GB in .*, where 0\.00 GB are free"):
        _export_all(opened, known | {f"new {number}": known["keep"] for number in range(100)})


def test_a_folder_holds_one_graft(done, model_file, drawn):
    with pytest.raises(DetrofitError, match="holds a graft with another 'steps'; choose another --out"):
        graft(model_file, drawn, done.folder, quick("0.9x", steps=5))


def test_a_teacher_that_finds_nothing_is_one_line(model_file, drawn, tmp_path):
    with pytest.raises(DetrofitError, match=r"the AP of .* on 'val' is 0\.0.*: there is nothing to imitate; train it"):
        graft(model_file, drawn, tmp_path, quick("0.9x"))


def test_a_search_split_too_small_for_the_noise_is_one_line(model_file, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(score, "LEAST_AP", -1.0)
    monkeypatch.setattr(score, "SURE", 1e9)
    with pytest.raises(DetrofitError, match=r"'val' \(6 pictures\) is too small for the noise: .* ± .*larger --search"):
        graft(model_file, drawn, tmp_path, quick("0.9x"))


def test_a_bench_file_that_is_not_there_is_told_before_any_work(model_file, drawn, tmp_path):
    with pytest.raises(DetrofitError, match=r"no record at .*typo\.json"):
        graft(model_file, drawn, tmp_path / "out", quick(bench=tmp_path / "typo.json"))
    assert not (tmp_path / "out").exists()


def test_a_folder_holds_what_one_content_of_a_plug_in_gave(model_file, drawn, tmp_path):
    plugin = tmp_path / "mine.py"
    for content, refused in (("width = 1", False), ("width = 1", False), ("width = 2", True)):
        plugin.write_text(content)
        with pytest.raises(DetrofitError, match="another 'plugins'") if refused else nullcontext():
            workshop.open_workshop(model_file, drawn, tmp_path / "out", quick(plugins=(plugin,)))


def test_what_the_choice_is_held_against_comes_before_the_fine_tuning(done, model_file, drawn, without_gates):
    seen = []

    def refuse(chosen):
        seen.append(chosen)
        raise DetrofitError("no study")

    with pytest.raises(DetrofitError, match="no study"):
        graft(model_file, drawn, done.folder, quick("0.999xparams", finish_epochs=1), check=refuse)
    assert [file.stem for file in seen] == [done.results["winner"]] and not (done.folder / "finish").exists()


def test_other_mistakes_are_one_line(model_file, drawn, tmp_path):
    with pytest.raises(DetrofitError, match=r"teacher\.safetensors has no slot 'backbone\.stage9"):
        graft(model_file, drawn, tmp_path, quick(slots=("backbone.stage9.block",)))
    with pytest.raises(DetrofitError, match="--search-split test: the test split decides nothing"):
        graft(model_file, drawn, tmp_path, quick(search_split="test"))
    other = drawn.with_name("other.yaml")
    first = open_dataset(drawn).class_names[0]
    other.write_text(drawn.read_text().replace(first, "zebra"))
    with pytest.raises(DetrofitError, match="does not know the class 'zebra' of the data"):
        graft(model_file, other, tmp_path / "out", quick())
    with pytest.raises(DetrofitError, match="has no split 'vall'"):
        graft(model_file, drawn, tmp_path, quick(search_split="vall"))
    with pytest.raises(DetrofitError, match="does not exist"):
        graft(tmp_path / "none.safetensors", drawn, tmp_path, quick())
    assert not (tmp_path / "library").exists()


def test_a_bench_file_of_a_device_counts_and_must_be_whole(done, model_file, drawn, without_gates, tmp_path):
    def entry(stem: str) -> dict:
        taken = 3.0 if stem.startswith("graft-") else 4.0 if "none" in stem else 5.0
        total = {"median": taken, "low": taken - 0.1, "high": taken + 0.1}
        ratio = {key: value / 5.0 for key, value in total.items()}
        parameters = json.loads((done.folder / "counts.json").read_text())[stem][0]
        own = {"runtime": "torch", "input_size": [64, 64], "parameters": parameters}
        return {"file": f"D:\\bench\\{stem}.onnx", "steps": {"total": total}, "ratio": ratio, **own, **changes}

    def on_device(*stems: str, **other: Any) -> dict:
        changes.update(other)
        content = {
            "format": FORMAT,
            "batch": 1,
            "machine": {"processor": "device"},
            "files": [entry(stem) for stem in stems],
        }
        bench.write_text(json.dumps(content))
        return graft(model_file, drawn, done.folder, quick("0.85x", bench=bench, knobs=True)).results

    bench, changes = tmp_path / "bench.json", {}
    library = ["keep", *(each["key"] for each in done.results["candidates"])]
    results = on_device(*library)
    assert results["machine"] == {"processor": "device"}
    assert results["knobs"] == [] and any("free knobs are not compared" in note for note in results["notes"])
    costs = {each["key"]: each["cost"]["latency"] for each in results["candidates"]}
    assert costs[f"{SLOT}=none"] == 4.0 and costs[f"{SLOT}=extradw+expand=1.0"] == 5.0
    for each in results["assembled"]:
        assert each["cost"]["latency"] == pytest.approx(each["predicted_latency"]), (
            "this machine's times stay out of it"
        )
    names = [each["name"] for each in results["assembled"]]
    assert names and all(name in results["notes"][-1] for name in names) and not results["assembled"][0]["timed"]
    assert results["corrections"]["latency"] == 1.0, "what was not timed corrects no times"

    assert results["sets"] == [], "none was timed there"
    results = on_device(*library, *names)
    assert {each["cost"]["latency"] for each in results["assembled"] if each["name"] in names} == {3.0}
    assert all(each["timed"] for each in results["assembled"] if each["name"] in names)
    sets = on_device(*library, "set-0", "set-2")["sets"]
    assert [each["cost"]["latency"] for each in sets] == [5.0, 5.0] and all(len(each["keys"]) > 1 for each in sets)
    with pytest.raises(DetrofitError, match=r"lacks 3 of the models, first '.*': time all files of .*exports"):
        on_device(*library[:2])
    with pytest.raises(DetrofitError, match="has times of onnxruntime, not of torch; give --runtime onnxruntime"):
        on_device(*library, runtime="onnxruntime")
    with pytest.raises(DetrofitError, match=r"has times of another '.*' \(\d+ parameters at 96,64, here \d+ at 64"):
        on_device(*library, runtime="torch", input_size=[96, 64])
    bench.write_text(json.dumps({"files": []}))
    with pytest.raises(DetrofitError, match="is no file of `detrofit bench --out`"):
        graft(model_file, drawn, done.folder, quick("0.85x", bench=bench))

    again = graft(model_file, drawn, done.folder, quick("0.999xparams")).results
    assert again["candidates"] == done.results["candidates"], "times of the device are not taken for this machine's"


def test_what_was_assembled_for_an_earlier_budget_counts_for_the_next(
    done, model_file, drawn, without_gates, monkeypatch
):
    results = graft(model_file, drawn, done.folder, quick("0.999xparams")).results
    there = {file.stem for file in (done.folder / "assemblies").glob("graft-*.safetensors")}
    assert {each["name"] for each in results["assembled"]} == there

    def none(*arguments):
        raise BudgetError("nothing meets it by sums")

    monkeypatch.setattr(sys.modules["detrofit.grafting.graft"], "_choices", none)
    assert graft(model_file, drawn, done.folder, quick("0.999xparams")).results["winner"] == results["winner"]
    with pytest.raises(BudgetError, match="nothing meets it by sums"):
        graft(model_file, drawn, done.folder, quick("0.001ms"))


def test_a_candidate_that_diverged_is_reported_and_not_chosen(model_file, drawn, tmp_path, without_gates, monkeypatch):
    def note(self, trainee, loss, real=LocalTraining._note):
        real(self, trainee, loss)
        if "extradw" in trainee.key or len(self.trainees) == 1:
            trainee.error = float("nan")

    monkeypatch.setattr(LocalTraining, "_note", note)
    settings = quick("0.999xparams", slots=(SLOT,), candidates=("none", "star", {"part": "extradw", "expand": 1.0}))
    results = graft(model_file, drawn, tmp_path / "out", settings).results
    (bad,) = (each for each in results["candidates"] if "extradw" in each["key"])
    assert bad["imitation_error"] is None and bad["score"]["total"] is None and bad["cost"]["parameters"] > 0
    assert not any(key == bad["key"] for each in results["assembled"] for key in each["keys"])
    assert "diverged" in (tmp_path / "out" / PAGE).read_text()
    assert any("diverged beside the other grafts" in note for note in results["notes"]), "and its second pass is undone"
    assert all(each["score"]["total"] is not None for each in results["assembled"])


def test_nothing_is_timed_where_every_candidate_diverged(model_file, drawn, tmp_path, without_gates, monkeypatch):
    monkeypatch.setattr(LocalTraining, "_note", lambda self, trainee, loss: setattr(trainee, "error", float("nan")))
    with pytest.raises(DetrofitError, match="none of the 4 candidates answers in numbers"):
        graft(model_file, drawn, tmp_path, quick())
    assert not (tmp_path / "costs.json").exists()


def test_a_runtime_that_is_not_installed_is_known_before_any_work(model_file, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(workshop, "installed_runtimes", lambda: ["torch"])
    with pytest.raises(DetrofitError, match=r"this needs 'openvino', which is not installed: pip install"):
        graft(model_file, drawn, tmp_path / "out", quick("0.9x", runtime="openvino"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_free_knobs_come_first_and_no_budget_gives_a_front(model_file, drawn, tmp_path, without_gates):
    settings = quick(slots=(SLOT,), candidates=("none",), knobs=True, runtime="onnxruntime")
    results = graft(model_file, drawn, tmp_path / "a folder", settings).results
    tried = json.loads((tmp_path / "a folder" / "knobs.json").read_text())["points"]
    assert results["search"]["looks"] == 2 + len(tried) + 1 + len(results["assembled"]) and len(tried) > 1
    assert results["knobs"] and all(0 < each["ratio"] < 2 and each["ap"] >= 0 for each in results["knobs"])
    assert all(each["keys"] == [f"{SLOT}=none"] for each in results["assembled"])
    assert "no graft" in (tmp_path / "a folder" / PAGE).read_text()


def test_two_commands_do_not_work_on_one_graft(done, model_file, drawn):
    with FileLock(done.folder / ".lock"), pytest.raises(DetrofitError, match=r"the graft in .* another command"):
        graft(model_file, drawn, done.folder, quick("0.999xparams"))


def test_a_split_alone_beside_train_is_left_for_the_test(model_file, tmp_path):
    data = draw_demo_dataset(tmp_path / "data", 0, pictures={"train": 16, "val": 2, "test": 3}, size=(64, 64))
    data.write_text(data.read_text().replace("val: images/val\n", ""))
    found = workshop.open_workshop(model_file, data, tmp_path / "out", quick())
    assert (len(found.train), len(found.search)) == (8, 8)
    assert "8 pictures drawn from train are searched on" in found.notes[0]
    with pytest.raises(DetrofitError, match="--search-split train: the candidates learn there"):
        workshop.open_workshop(model_file, data, tmp_path / "other", quick(search_split="train"))


def test_pictures_of_the_search_split_that_candidates_learn_on_are_told_of(model_file, drawn, tmp_path):
    shutil.copytree(drawn.parent, tmp_path / "data")
    for kind in ("images", "labels"):
        for file in sorted((tmp_path / "data" / kind / "train").iterdir())[:2]:
            shutil.copyfile(file, tmp_path / "data" / kind / "val" / f"again-{file.name}")
    found = workshop.open_workshop(model_file, tmp_path / "data" / drawn.name, tmp_path / "out", quick())
    assert found.notes == ["2 of 8 pictures of 'val' are in 'train' as well"]


def test_what_an_earlier_graft_drew_from_train_is_not_taken_for_the_data_that_are_given(model_file, drawn, tmp_path):
    shutil.copytree(drawn.parent, tmp_path / "data")
    found = workshop.open_workshop(model_file, drawn, tmp_path, quick())
    assert found.data_path == drawn.absolute() and not found.notes
