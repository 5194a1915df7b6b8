from __future__ import annotations

import dataclasses
import inspect
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from detrofit.comparison import executors, runner
from detrofit.comparison.compare import PlannedStudy, plan_study, run_study
from detrofit.comparison.jobs import job_description
from detrofit.comparison.report import files
from detrofit.comparison.study import load_study
from detrofit.data.demo import draw_demo_dataset
from detrofit.errors import DetrofitError
from detrofit.parts import registry
from detrofit.parts.registry import Origin, get_part
from tests.comparison.records import make_record
from tests.comparison.report_cases import NO_CHARTS

WORKER = """
import json, sys
from pathlib import Path
job = json.loads(Path(sys.argv[1]).read_text())
folder = Path(job["folder"])
with (folder / "started.txt").open("a") as file:
    file.write(job["name"] + "\\n")
if job["variant"] in json.loads((folder / "crash.json").read_text()):
    sys.exit("out of memory")
record = json.loads((folder / "record.json").read_text())
record |= {key: job[key] for key in ("variant", "seed", "identity")}
places = ("runs", "name", "device", "workers")
record["experiment"] = {key: value for key, value in job["experiment"].items() if key not in places}
record["test"] = {name: value + 0.01 * (job["variant"] != "base") for name, value in record["test"].items()}
(folder / "jobs").mkdir(exist_ok=True)
(folder / "jobs" / (job["name"] + ".json")).write_text(json.dumps(record))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder whose jobs are not trained but drawn by a script."""
    draw_demo_dataset(tmp_path / "data", pictures={"train": 20, "val": 3, "test": 3}, size=(64, 64))
    (tmp_path / "worker.py").write_text(WORKER)
    monkeypatch.setattr(executors, "WORKER", (str(tmp_path / "worker.py"),))
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(files, "study_charts", lambda content: NO_CHARTS)  # which take seconds
    study = tmp_path / "study"
    study.mkdir()
    (study / "record.json").write_text(json.dumps(make_record("x", 0, 0.4)))
    (study / "crash.json").write_text("[]")
    return study


def plan(folder: Path, **changes: Any) -> PlannedStudy:
    values = {
        "model": "rtdetr-n",
        "data": str(folder.parent / "data"),
        "imgsz": 64,
        "train": {"epochs": 1},
        "seeds": 2,
        "resamples": 200,
        "latency_rounds": 0,
    }
    return plan_study(load_study({**values, "variants": {"nwd": {"loss.box": "nwd"}}, **changes}), folder)


def started(folder: Path) -> list[str]:
    return (folder / "started.txt").read_text().split()


def test_a_finished_run_is_never_run_again(folder: Path) -> None:
    run_study(plan(folder), executors.LocalProcesses(2))
    assert len(started(folder)) == 4 and (folder / "report.html").is_file()
    assert len(plan(folder).done) == 4
    run_study(plan(folder, seeds=3))
    assert len(started(folder)) == 6, "a third seed adds its own two runs"
    for file in (folder / "jobs").glob("*.json"):
        file.unlink()
    assert len(plan(folder, seeds=3).done) == 6, "results.json alone tells what is done"


def test_what_decides_a_run_decides_its_identity(folder: Path) -> None:
    jobs = plan(folder).jobs
    assert all(job.experiment.seed == job.seed for job in jobs)
    assert sorted((job.variant, job.seed) for job in jobs) == [("base", 0), ("base", 1), ("nwd", 0), ("nwd", 1)]
    first = {job.identity for job in jobs}
    assert first == {job.identity for job in plan(folder, device="cpu", workers=0).jobs}
    assert not first & {job.identity for job in plan(folder, train={"epochs": 2}).jobs}
    label = next((folder.parent / "data" / "labels" / "train").glob("*.txt"))
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    second = {job.identity for job in plan(folder).jobs}
    assert not first & second, "other data are other runs"
    picture = next((folder.parent / "data" / "images" / "train").glob("*.jpg"))
    content = bytearray(picture.read_bytes())
    content[-20] ^= 1
    picture.write_bytes(content)
    assert not second & {job.identity for job in plan(folder).jobs}, "a picture of the same size is another one"


def test_of_two_addresses_for_one_slot_the_last_counts_and_so_does_their_order(folder: Path) -> None:
    swaps = {"backbone.stage4.block": "extradw", "backbone.stage[3,4].block": "uib"}

    def identities(names: list[str]) -> set[str]:
        return {job.identity for job in plan(folder, retrofit={name: swaps[name] for name in names}).jobs}

    assert not identities(list(swaps)) & identities(list(swaps)[::-1])
    swaps["backbone.stage4.block"] = swaps.pop("backbone.stage[3,4].block")
    swaps["backbone.stage3.block"] = "extradw"
    assert identities(list(swaps)) == identities(list(swaps)[::-1]), "no slot is named twice"


def test_parts_of_installed_packages_are_known_by_their_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {job.identity for job in plan(folder).jobs}
    part = get_part("nwd")
    monkeypatch.setitem(registry._PARTS, "nwd", dataclasses.replace(part, origin=Origin("my-parts", "1.0")))
    after = {job.identity for job in plan(folder).jobs}
    assert len(before & after) == 2, "the base has no such part"
    (folder.parent / "mine.py").write_text("class Edited: ...")
    monkeypatch.setattr(inspect, "getfile", lambda build: str(folder.parent / "mine.py"))
    assert len(after & {job.identity for job in plan(folder).jobs}) == 2


def test_two_names_for_the_very_same_runs_are_refused(folder: Path) -> None:
    with pytest.raises(DetrofitError, match=r"'base' and 'other' make the very same runs; leave one of them out"):
        plan(folder, variants={"other": {"train.val_split": "test"}})


def test_finished_runs_that_are_not_asked_for_now_are_kept_aside(folder: Path) -> None:
    run_study(plan(folder))
    results = run_study(plan(folder, seeds=1, variants={"siou": {"loss.box": "siou"}}))
    aside = {(record["variant"], record["seed"]) for record in results["set_aside"]}
    assert aside == {("base", 1), ("nwd", 0), ("nwd", 1)}
    shutil.rmtree(folder / "jobs")
    assert len(plan(folder).done) == 4, "in a new clone, where results.json is all there is"
    assert not (folder / "jobs").exists(), "a plan writes nothing"
    assert run_study(plan(folder))["comparisons"][0]["seeds"] == [0, 1] and len(started(folder)) == 5


def test_finished_runs_that_the_study_can_no_longer_use_are_told_of(folder: Path) -> None:
    run_study(plan(folder))
    assert plan(folder).unused == plan(folder, variants={"siou": {"loss.box": "siou"}}).unused == []
    (line,) = plan(folder, train={"epochs": 2}).unused
    assert line.startswith("4 finished runs in this folder cannot be used (since then train.epochs changed)")
    label = next((folder.parent / "data" / "labels" / "test").glob("*.txt"))
    label.write_text("0 0.5 0.5 0.2 0.2\n")
    (line,) = plan(folder).unused
    assert "(since then the data, `resamples` or a file that runs start from changed)" in line


def test_a_study_remembers_that_it_was_judged_before(folder: Path) -> None:
    first = run_study(plan(folder))
    assert first["warnings"] == [] and len(first["looks"]) == 1
    assert run_study(plan(folder))["looks"] == first["looks"], "the same once more is no other look"
    siou = {"siou": {"loss.box": "siou"}}
    planned = plan(folder, seeds=3, variants=siou)
    assert "3 seeds and 2 variants" in planned.reach, "the one that was left out counts"
    results = run_study(planned)
    assert results["warnings"] == [
        "'nwd' was tried in this study and left out later; it counts among the variants tried"
    ]
    assert results["comparisons"][0]["verdict"]["level"] == pytest.approx(0.025)
    again = run_study(plan(folder, seeds=4, variants=siou))
    assert again["warnings"][0].startswith("verdicts on these variants were seen before, with 3 seeds")
    assert len(again["looks"]) == 3


def test_of_two_records_of_a_run_the_finished_one_counts(folder: Path) -> None:
    run_study(plan(folder))
    record = next((folder / "jobs").glob("nwd-*.json"))
    done = json.loads(record.read_text())
    record.write_text(
        json.dumps({**done, "status": "failed", "error": "an older try, before results.json was fetched"})
    )
    planned = plan(folder)
    assert len(planned.done) == 4
    run_study(planned)
    assert json.loads(record.read_text()) == done and len(started(folder)) == 4


def test_a_folder_that_is_called_like_a_kind_of_weights_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = plan(folder).jobs
    (folder.parent / "none").mkdir()
    (folder.parent / "none" / "picture.jpg").write_bytes(b"0")
    monkeypatch.chdir(folder.parent)
    again = plan(folder).jobs
    assert [job.identity for job in again] == [job.identity for job in first]
    assert job_description(again[0], folder, 1)["experiment"]["weights"] == "none"


def test_a_failed_job_is_reported_and_tried_again(folder: Path) -> None:
    (folder / "crash.json").write_text('["nwd"]')
    results = run_study(plan(folder))
    assert [line["done"] for line in results["variants"]] == [2, 0]
    assert "out of memory" in results["variants"][1]["failed"][0]["error"]
    (folder / "crash.json").write_text("[]")
    results = run_study(plan(folder))
    assert [line["done"] for line in results["variants"]] == [2, 2]
    assert len(started(folder)) == 6


def test_without_a_base_nothing_is_compared_and_nothing_lost(folder: Path) -> None:
    (folder / "crash.json").write_text('["base"]')
    with pytest.raises(DetrofitError, match="no run of the base succeeded"):
        run_study(plan(folder))
    assert len(list((folder / "jobs").glob("nwd-*.json"))) == 2


def test_a_new_clone_goes_on_from_results_alone(folder: Path) -> None:
    run_study(plan(folder, seeds=3))
    clone = folder.with_name("clone")
    clone.mkdir()
    for name in ("results.json", "record.json", "crash.json"):
        shutil.copy(folder / name, clone / name)
    moved = folder.parent / "elsewhere"
    (folder.parent / "data").rename(moved)
    planned = plan(clone, seeds=4, data=str(moved), variants={"renamed": {"loss.box": "nwd"}})
    results = run_study(planned)
    assert sorted(name.partition("-seed")[2][0] for name in started(clone)) == ["3", "3"], "two runs of the new seed"
    assert [(line["name"], line["done"]) for line in results["variants"]] == [("base", 4), ("renamed", 4)]


def test_results_are_kept_whenever_a_run_ends(folder: Path) -> None:
    seen: list[int] = []

    def look(progress: Any) -> None:
        if (folder / "results.json").exists():
            runs = json.loads((folder / "results.json").read_text())["runs"]
            seen.append(len(runs))
            assert len(runs) == len(progress.over)

    run_study(plan(folder), show=look)
    assert set(seen) == {1, 2, 3, 4}


def test_time_left_follows_what_runs_of_a_variant_took(folder: Path) -> None:
    planned = plan(folder, seeds=3)
    jobs = planned.jobs
    took = {"base": 100.0, "nwd": 300.0}
    over = {job.identity: make_record(job.variant, job.seed, 0.4) | {"seconds": took[job.variant]} for job in jobs[:4]}
    progress = runner.Progress(folder, jobs[4:], over, slots=2)
    assert progress.seconds_left() == pytest.approx((100 + 300) / 2)
    assert runner.Progress(folder, jobs, {}).seconds_left() is None
    assert [progress.state_of(job) for job in jobs[3:5]] == ["AP 40.0", "waits"]


def test_a_job_whose_machine_is_lost_runs_again_and_gives_up_in_the_end(folder: Path) -> None:
    class Losing(executors.LocalProcesses):
        def ended(self) -> list[executors.Ended]:
            return [executors.Ended(each.name, None if each.code else 0) for each in super().ended()]

    (folder / "crash.json").write_text('["nwd"]')
    results = run_study(plan(folder, seeds=1), Losing())
    assert sorted(name.partition("-")[0] for name in started(folder)) == ["base", "nwd", "nwd", "nwd"]
    assert "machine was lost 3 times" in results["variants"][1]["failed"][0]["error"]
    assert any("'nwd' failed with seed 0" in warning for warning in results["warnings"])


def test_a_record_that_was_cut_off_is_named(folder: Path) -> None:
    run_study(plan(folder))
    record = next((folder / "jobs").glob("*.json"))
    record.write_text(record.read_text()[:50])
    with pytest.raises(DetrofitError, match=f"{record.name} is cut off"):
        plan(folder)


def test_a_record_of_another_version_is_named(folder: Path) -> None:
    run_study(plan(folder))
    record = next((folder / "jobs").glob("*.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), "detrofit": "0.0.1"}))
    with pytest.raises(DetrofitError, match=r"was written by detrofit 0\.0\.1, this is .*: use that version"):
        plan(folder)


def test_two_commands_do_not_run_one_study(folder: Path) -> None:
    planned = plan(folder)
    with FileLock(folder / ".lock"), pytest.raises(DetrofitError, match="is being run by another command"):
        run_study(planned)
    assert not (folder / "started.txt").exists()


PATIENT_WORKER = """
import json, signal, sys, time
from pathlib import Path
folder = Path(json.loads(Path(sys.argv[1]).read_text())["folder"])
def save(number, frame):
    (folder / "saved.txt").write_text("state")
    sys.exit(1)
signal.signal(signal.SIGTERM, save)
(folder / "started.txt").write_text("")
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGTERM")
def test_sigterm_ends_the_jobs_so_that_they_save_their_state(folder: Path) -> None:
    (folder.parent / "worker.py").write_text(PATIENT_WORKER)

    def end(progress: runner.Progress) -> None:
        if (folder / "started.txt").exists():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_study(plan(folder), show=end)
    assert (folder / "saved.txt").read_text() == "state"
    assert not list((folder / "jobs").glob("*.json"))


def test_with_one_split_the_checkpoint_is_chosen_on_a_part_of_train(folder: Path) -> None:
    description = folder.parent / "data" / "data.yaml"
    description.write_text(description.read_text().replace("test: images/test\n", ""))
    planned = plan(folder)
    assert "drawn from train choose the checkpoint" in planned.data.notes[0]
    assert (planned.data.val_split, planned.data.test_split) == ("val", "test")
    from detrofit.data.open import open_dataset

    data = open_dataset(planned.data.path)
    train, val, test = (set(data.split(name).names()) for name in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (12, 8, 3)
    assert not train & val and not test & (train | val), "no picture has two parts to play"


def test_a_class_without_test_objects_is_said(folder: Path) -> None:
    for label in (folder.parent / "data" / "labels" / "test").glob("*.txt"):
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    assert any("has no objects of" in note for note in plan(folder).data.notes)


def write_predictions(file: Path, **changes: Any) -> Path:
    """COCO results with one detection."""
    record = {"image_id": 1, "category_id": 0, "bbox": [1, 1, 20, 20], "score": 0.9, **changes}
    file.write_text(json.dumps([record]))
    return file


def test_predictions_of_another_tool_are_scored_as_runs(folder: Path) -> None:
    found = [write_predictions(folder / f"yolo{seed}.json", score=0.5 + 0.1 * seed) for seed in range(2)]
    results = run_study(plan(folder, external={"yolo": found}))
    kept = {run["predictions"] for run in results["runs"] if run["variant"] == "yolo"}
    assert len(kept) == 2 and all((folder / name).is_file() for name in kept)
    assert results["variants"][-1]["kind"] == "external" and results["variants"][-1]["done"] == 2
    doubts = ("has no detection on 2 of 3 test pictures", "has no score below 0.6", "reaches AP 0.0 alone")
    for warning, doubt in zip(results["warnings"], doubts, strict=True):
        assert warning.startswith(f"'yolo' {doubt}")
    again = run_study(plan(folder, external={"yolo": found}))
    assert again["runs"] == results["runs"] and again["warnings"] == results["warnings"]


def test_predictions_that_cannot_be_runs_are_named_before_any_work(folder: Path) -> None:
    file = write_predictions(folder / "yolo.json", image_id=77)
    with pytest.raises(DetrofitError, match="image_id 77"):
        plan(folder, external={"yolo": [file]})
    file, copy = write_predictions(folder / "yolo.json"), write_predictions(folder / "copy.json")
    with pytest.raises(DetrofitError, match=r"yolo\.json and .*copy\.json hold the same predictions"):
        plan(folder, external={"yolo": [file, copy]})
