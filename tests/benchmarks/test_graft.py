"""The measurements behind docs/graft.md and docs/distillation.md in their smallest form, from end to end."""

from __future__ import annotations

import importlib
import json
import math
import shutil
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from detrofit import DetrofitError
from detrofit.config.load import load_experiment
from detrofit.config.schema import Experiment
from detrofit.data.demo import draw_demo_dataset
from detrofit.grafting import score
from detrofit.grafting.additivity import kendall_tau
from detrofit.training.run_folder import BEST, METRICS, RunFolder
from detrofit.weights.model_file import ModelInfo, save_model
from tests.distillation.tiny_models import tiny_model

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY: dict[str, Any] = {
    "model.num_queries": 20,
    "model.decoder_layers": 1,
    "model.num_denoising": 0,
    "device": "cpu",
    "workers": 0,
    "train.epochs": 1,
}
ONE = {"slots": ("backbone.stage4.block1",), "candidates": ("none", {"part": "extradw", "expand": 1.0}),
       "device": "cpu", "assemblies": 1, "knobs": False}  # fmt: skip


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a script of the folder by name."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


@pytest.fixture
def data(tmp_path: Path) -> Path:
    draw_demo_dataset(tmp_path / "data" / "demo", 0, pictures={"train": 8, "val": 4, "test": 4}, size=(64, 64))
    return tmp_path / "data"


@pytest.mark.slow
def test_every_part_of_the_graft_benchmark_can_be_done(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graft = script("graft")
    monkeypatch.setattr(score, "LEAST_AP", -1.0)  # nothing is learnt in one epoch
    monkeypatch.setattr(score, "SURE", -1e9)
    bench = small(script, monkeypatch, (0,))
    for module in (graft, bench):
        monkeypatch.setattr(module, "TOOL", ONE)
    monkeypatch.setattr(graft, "UNIFORM", {"slots": ("backbone.stage[3,4].block1",), "candidates": (bench.EXTRADW,)})
    monkeypatch.setattr(graft, "BUDGET", "0.999xparams")
    monkeypatch.setattr(graft, "FEWER_PARAMETERS", "0.1xparams")
    monkeypatch.setattr(graft, "RANDOM_ASSEMBLIES", 1)
    monkeypatch.setattr(graft, "FEWEST_FOR_TAU", 1)
    monkeypatch.setattr(graft, "CONTROLS", ("stages 3 and 4",))
    monkeypatch.setattr(graft, "KNOBS_OF", (("stages 3 and 4",),))
    for name, settings in (("KNOBS", ((20, 1), (10, 1))), ("WITH_FEWER_PIXELS", ((10, 1),))):
        monkeypatch.setattr(script("graft_knobs"), name, settings)
    left_out = {f"replaced {label}" for label in graft.REPLACED if label not in ("stage 4", "stages 3 and 4")}
    steps = {name: step for name, step in graft.STEPS.items() if name not in left_out}
    monkeypatch.setattr(graft, "STEPS", steps)
    record = tmp_path / "record.json"
    options = ["--data", data, "--runs", tmp_path / "runs", "--record", record, "--steps", 2, "--batch", 4]
    options += ["--rounds", 6, "--runtime", "torch", "--finish", 1]
    assert run(graft, monkeypatch, *options) == 0, capsys.readouterr().err
    done = json.loads(record.read_text())
    assert list(done) == [f"demo-0/{step}" for step in steps]
    knobs = done["demo-0/knobs"]["knobs"]
    sources = ("teacher", "stages 3 and 4")
    turned = [f"{source}, {queries} queries, 1 layers" for source in sources for queries in (20, 10)]
    turned += [f"{source}, 10 queries, 1 layers, 32 x 32 pixels" for source in sources]
    assert [*knobs] == turned
    assert all(0 < each["cost"]["ratio_low"] < each["cost"]["ratio_high"] for each in knobs.values())
    assert done["demo-0/graft"]["winner"].startswith("graft-") and done["demo-0/graft"]["missed"] is None
    winner, whole_stage = done["demo-0/graft"]["winner"], done["demo-0/replaced stage 4"]["name"]
    tested = {"teacher", "keep", "rival teacher trained longer", "rival uniformly narrower", winner}
    tested |= {f"{winner}, no fine-tuning", f"{whole_stage}, uniform", f"{whole_stage}, uniform, no fine-tuning"}
    assert tested <= done["demo-0/test"].keys()
    assert "nothing meets the budget 0.1xparams" in done["demo-0/fewer parameters"]["missed"]
    assert done["demo-0/test"]["teacher"]["less the teacher's"] == [0.0, 0.0]
    timed = done["demo-0/rivals timed"]
    rivals = script("graft_rivals").TRAINED
    assert all(timed[label]["ratio_low"] > 0 for label in rivals)
    assert all(math.isfinite(done["demo-0/rivals finished"][label]["total"]) for label in rivals)
    assert {f"{label}, fine-tuned" for label in rivals} <= done["demo-0/test"].keys()
    narrower = done["demo-0/rival uniformly narrower"]["parameters"]
    chosen = done["demo-0/rival the chosen parts from random numbers"]["parameters"]
    assert abs(narrower - chosen) < 0.05 * chosen
    capsys.readouterr()
    assert run(graft, monkeypatch, "--table", "--record", record) == 0
    table = capsys.readouterr().out
    for told in ("| demo-0 | teacher |", "random numbers, no training", "graft: chosen graft-", "stage 4: all replaced",
                 "nothing meets the budget 0.1xparams", "; graft-", "(test split: "):  # fmt: skip
        assert told in table
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1

    shutil.rmtree(tmp_path / "runs" / "demo-0" / "graft")
    before = done.pop("demo-0/test")
    record.write_text(json.dumps(done))
    assert run(graft, monkeypatch, *options) == 0, capsys.readouterr().err
    after = json.loads(record.read_text())["demo-0/test"]
    again = after.pop("made again")
    assert [*again] == [winner, "keep, fine-tuned", f"{winner}, fine-tuned"]
    assert all(each["val AP"] == each["recorded"] for each in again.values()), "what is made again is the same model"
    same = ("teacher", "keep", winner, f"{winner}, no fine-tuning")
    assert {name: after[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.slow
def test_a_part_that_cannot_be_done_does_not_stop_the_others(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graft = script("graft")
    small(script, monkeypatch, (0,))
    record = tmp_path / "record.json"
    only = ["demo-0/rival u", "demo-0/ass"]
    options = ["--data", data, "--runs", tmp_path / "runs", "--record", record, "--only", *only]
    assert run(graft, monkeypatch, *options) == 1
    told = capsys.readouterr().err.splitlines()
    assert told == [f"demo-0/{step} cannot be done: this needs demo-0/graft, which is not done"
                    for step in ("assemblies", "rival uniformly narrower")]  # fmt: skip


def test_what_tells_most_is_done_first_and_the_test_split_comes_last(
    script: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    graft = script("graft")
    small(script, monkeypatch, (0, 1))
    assert run(graft, monkeypatch, "--list", "--record", tmp_path / "record.json") == 0
    listed = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert listed[:3] == ["demo-0/teacher", "demo-0/control", "demo-0/replaced stages 3 and 4"]
    assert sorted(listed) == sorted([*(f"demo-0/{step}" for step in graft.STEPS),
                                     *(f"demo-1/{step}" for step in (*graft.ALL, "test"))])  # fmt: skip
    assert listed.index("demo-0/graft") < listed.index("demo-1/graft") < listed.index("demo-0/assemblies")
    assert listed[-2:] == ["demo-0/test", "demo-1/test"]


def test_a_teacher_that_is_there_is_taken_unless_it_was_trained_otherwise(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graft, results = script("graft"), script("results")
    bench = small(script, monkeypatch, (0,))
    known, record = tmp_path / "runs" / "demo-0", tmp_path / "results.json"
    record.write_text(json.dumps({"demo-0": {"core minutes": 7.5}}))
    monkeypatch.setattr(results, "RECORD", record)
    given = Namespace(data=tmp_path, runs=tmp_path / "grafts", teachers=known.parent, record=tmp_path / "record.json",
                      steps=2, batch=4, rounds=6, runtime="torch", finish=1)  # fmt: skip
    one = bench.Bench("demo-0", given)
    finished_run(known, load_experiment(one.values(weights="auto", name="demo-0")))
    row = graft.teacher(one)
    assert (row["minutes"], row["epochs"], row["val AP"]) == (7.5, 1, 0.25)
    shutil.rmtree(known)
    assert graft.teacher(one) == row, "the copy stays, and tells what it took"
    finished_run(known, load_experiment(one.values(name="demo-0")))
    monkeypatch.setattr(bench, "RECIPE", {**bench.RECIPE, "train.lr": 1e-3})
    with pytest.raises(DetrofitError, match=r"teacher holds a training with another 'train\.lr'"):
        graft.teacher(one)
    shutil.rmtree(given.runs)
    with pytest.raises(DetrofitError, match=r"demo-0 was trained with another 'train\.lr'; leave --teachers out"):
        graft.teacher(one)


def finished_run(folder: Path, experiment: Experiment) -> None:
    """What a training leaves, without one."""
    RunFolder(folder, writes=True).write_config(experiment)
    (folder / METRICS).write_text(json.dumps({"epoch": 1, "AP": 0.25}) + "\n")
    save_model(folder / BEST, tiny_model(), ModelInfo("rtdetr-n", ("a", "b", "c"), (0, 1, 2), (64, 64)))


def test_a_model_that_answers_in_no_numbers_is_a_dash_in_the_table_and_no_part_of_an_order(script: Any) -> None:
    cost = {"parameters": 2e6, "ratio": 0.7, "ratio_low": 0.6, "ratio_high": 0.8}
    good = {"name": "good", "keys": [], "score": {"ap": 0.5, "total": 0.1}, "cost": cost, "finished": None,
            "predicted_latency": 15.0}  # fmt: skip
    bad = {**good, "name": "bad", "score": {"ap": None, "total": None}}
    record = {"machine": "one", "threads": 1, "date": "today"}
    grafted = {**record, "winner": "good", "verdict": "good it is", "assembled": [good, bad], "tau": None,
               "missed": "nothing meets the budget: the nearest is 12ms",
               "teacher": {"cost": {"latency": 20.0, "parameters": 3e6}}, "minutes": 3.0}  # fmt: skip
    told = script("graft_tables").table({
        "demo-0/teacher": {**record, "val AP": 0.6, "minutes": 2.0, "parameters": 3e6},
        "demo-0/test": {**record, "teacher": {"AP": 0.6}},  # of this graft nothing was tested
        "demo-0/control": {**record, "neck": {"ap": math.nan}},
        "demo-0/graft": grafted,
        "demo-0/assemblies": {**record, "tau before fine-tuning": kendall_tau([1, 2], [1, 2])},
    })  # fmt: skip
    assert "| demo-0 | neck: random numbers, no training |  |  | - |  |  |" in told
    assert "| demo-0 | graft: assembled bad | 2.00 | 0.70 (0.60 to 0.80) | - |  |  |" in told
    assert "- demo-0: nothing meets the budget: the nearest is 12ms\n" in told
    assert "latency of what was assembled: 0.75, 0.75 expected, 0.70, 0.70 measured" in told
    assert "good has AP -10.0, latency 0.70, parameters 0.67, work 1.50" in told
    assert "2 assemblies: 1.00, too few for an interval" in told
    order = [{"predicted_loss": number, "score": {"total": number}} for number in range(7)]
    unsound = [{"predicted_loss": 9.0, "score": {"total": total}} for total in (None, math.nan)]
    found = script("graft")._tau([*order, *unsound], "score")
    assert (found["tau"], found["number"]) == (1, 7)


@pytest.mark.slow
def test_the_teacher_benchmark_can_be_done(
    script: Any, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = script("teacher")
    model = {"name": "rtdetr-n", "num_queries": 20, "decoder_layers": 1, "num_denoising": 0}
    monkeypatch.setattr(teacher, "STUDENT", {**teacher.STUDENT, "model": model, "device": "cpu", "workers": 0})
    monkeypatch.setattr(teacher, "TEACHER", {**teacher.TEACHER, "model": "rtdetr-n"})
    monkeypatch.setattr(teacher, "ROUNDS", 3)
    monkeypatch.setattr(teacher, "RECORD", tmp_path / "record.json")  # not the one that the docs are made of
    options = ["--data", data / "demo", "--runs", tmp_path / "runs", "--seeds", 1, "--epochs", 1, "--imgsz", 64]
    assert run(teacher, monkeypatch, *options) == 0
    assert "an update takes" in capsys.readouterr().out
    study = json.loads((tmp_path / "runs" / "study" / "results.json").read_text())
    assert all(line["done"] == 1 for line in study["variants"]), study["variants"]
    assert json.loads((tmp_path / "record.json").read_text())["seeds"] == [0]
    taught = load_config(tmp_path / "runs" / "teacher")
    assert taught["retrofit"] == {} and study["variants"][1]["name"] == "taught"


def small(script: Any, monkeypatch: pytest.MonkeyPatch, seeds: tuple[int, ...]) -> ModuleType:
    """The setting of the graft benchmark with drawn pictures alone and hardly any training."""
    graft, bench = script("graft"), script("graft_bench")
    for module in (graft, bench):
        monkeypatch.setattr(module, "SETS", {"demo": ("demo", {"imgsz": 64}, seeds, "demo")})
    monkeypatch.setattr(bench, "RECIPE", {**bench.RECIPE, **TINY, "model": {"name": "rtdetr-n"}})
    monkeypatch.setattr(bench, "NORM_PICTURES", 4)
    return bench  # type: ignore[no-any-return]


def run(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    """The exit code of a script called with these options."""
    monkeypatch.setattr("sys.argv", [f"{module.__name__}.py", *map(str, options)])
    try:
        module.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def load_config(folder: Path) -> dict[str, Any]:
    import yaml

    content: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
    return content
