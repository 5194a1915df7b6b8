"""The base's trained models at another point: scored once for each seed, and never trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detrofit.comparison import worker
from detrofit.comparison.analysis import study_results
from detrofit.comparison.compare import PlannedStudy, plan_study
from detrofit.comparison.jobs import run_folder
from detrofit.comparison.study import load_study
from detrofit.comparison.traded import parse_traded, traded_records
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.demo_scenes import SHAPES
from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from detrofit.training.run_folder import BEST
from detrofit.training.score import score_file
from detrofit.weights.model_file import load_model, read_info, save_model
from detrofit.weights.truncate import truncated
from tests.comparison.records import make_record
from tests.deployment.models import FEW, draw_model, model_info

POINT = {"imgsz": [96, 96], "model.num_queries": 10, "model.decoder_layers": 1}


@pytest.fixture
def planned(tmp_path: Path) -> PlannedStudy:
    """A study whose base has two seeds, for which drawn weights stand; the objects are what these see when cut down."""
    data = draw_demo_dataset(tmp_path / "data", 0, pictures={"train": 2, "val": 2, "test": 4}, size=(96, 96))
    values: dict[str, Any] = {"model": {"name": "rtdetr-n", **FEW}, "data": data, "imgsz": 64, "device": "cpu"}
    values |= {"workers": 0, "seeds": 2, "resamples": 200, "train": {"precision": "fp32"}}
    model, info = draw_model("rtdetr-n", num_classes=len(SHAPES)), model_info("rtdetr-n", (64, 64), tuple(SHAPES))
    cut = truncated(model, num_queries=10, decoder_layers=1)
    save_model(tmp_path / "cut.safetensors", cut, replace(info, input_size=(96, 96)))
    for found in Detector(tmp_path / "cut.safetensors", threshold=0, device="cpu")(data.parent / "images" / "test"):
        lines = [line.rpartition(" ")[0] for line in found.to_yolo_txt().splitlines()[:8]]
        (data.parent / "labels" / "test" / f"{Path(found.source).stem}.txt").write_text("\n".join(lines) + "\n")
    planned = plan_study(load_study({**values, "traded": {"base, cut": POINT}}), tmp_path / "study")
    for job in planned.jobs:
        save_model(run_folder(planned.folder, job.name) / BEST, model, info)
    return planned


def base_records(planned: PlannedStudy) -> dict[str, dict[str, Any]]:
    return {job.identity: make_record("base", job.seed, 0.5, job.identity) for job in planned.jobs}


def test_each_seed_of_the_base_is_scored_at_the_point_once_and_is_a_control(planned, tmp_path, monkeypatch):
    known = base_records(planned)
    assert {job.variant for job in planned.jobs} == {"base"} and planned.names == ["base", "base, cut"]
    made = traded_records(planned.study.traded, planned.jobs, known, planned.folder)
    assert [(each["variant"], each["seed"]) for each in made] == [("base, cut", 0), ("base, cut", 1)]
    for each in made:
        folder = (planned.folder / each["predictions"]).parent
        model, info = load_model(folder / BEST), read_info(folder / BEST)
        assert (info.input_size, model.frame.num_queries, model.frame.decoder_layers) == ((96, 96), 10, 1)
        _, scored = score_file(
            folder / BEST, planned.data.path, "test", workers=0, device="cpu", precision="fp32", out=tmp_path / "again"
        )
        assert each["test"]["AP"] == pytest.approx(scored.summary["AP"]) and each["test"]["AP"] > 0
        assert json.loads((planned.folder / "jobs" / f"{folder.name}.json").read_text()) == each
    results = study_results(planned.study, planned.data, [*known.values(), *made], "study")
    assert results["comparisons"][0]["kind"] == "control" and results["comparisons"][0]["seeds"] == [0, 1]
    assert results["variants"][1]["changes"] == POINT and results["variants"][1]["costs"]["parameters"] > 1e5

    monkeypatch.setattr(worker, "score_run", lambda *arguments: pytest.fail("it is known already"))
    again = {each["identity"]: each for each in made}
    assert traded_records(planned.study.traded, planned.jobs, known | again, planned.folder) == made


def test_a_base_that_is_not_at_hand_is_said(planned):
    known, said = base_records(planned), []
    for job in planned.jobs:
        (run_folder(planned.folder, job.name) / BEST).unlink()
    assert traded_records(planned.study.traded, planned.jobs, known, planned.folder, said.append) == []
    assert said[0] == "'base, cut' has no seed 0: the base's model file is not in this folder"


def test_the_choice_of_a_trade_names_itself(tmp_path):
    file = tmp_path / "trade.json"
    file.write_text(json.dumps({"chosen": {"imgsz": [96, 128], "num_queries": 10, "decoder_layers": 1}}))
    point = {"imgsz": [96, 128], "model.num_queries": 10, "model.decoder_layers": 1}
    name = "base at 96x128, 10 queries, 1 decoder layer"
    assert parse_traded([file], {"mine": POINT}) == {"mine": POINT, name: point}
    with pytest.raises(DetrofitError, match=f"two variants are called '{name}'"):
        parse_traded([file, file])


@pytest.mark.parametrize(
    ("content", "line"),
    [(None, "no trade.json of"), ("[]", "no trade.json of"), ('{"chosen": null}', "has chosen nothing; run")],
)
def test_what_chose_nothing_is_one_line(tmp_path, content, line):
    file = tmp_path / "trade.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(DetrofitError, match=line):
        parse_traded([file])


def test_a_point_that_cannot_be_scored_is_a_failed_run_and_is_tried_again(planned, monkeypatch):
    known = base_records(planned)
    file = run_folder(planned.folder, planned.jobs[0].name) / BEST
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    broken, good = traded_records(planned.study.traded, planned.jobs, known, planned.folder)
    assert (broken["status"], good["status"]) == ("failed", "done") and str(planned.folder) not in broken["error"]
    file.write_bytes(whole)
    again = traded_records(planned.study.traded, planned.jobs, known | {broken["identity"]: broken}, planned.folder)
    assert [each["status"] for each in again] == ["done", "done"]
