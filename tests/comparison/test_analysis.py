from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detrofit.comparison.analysis import analyse
from detrofit.comparison.jobs import pack_resamples, unpack_resamples
from detrofit.comparison.looks import with_look
from tests.comparison.records import make_results

SCORES = {"base": 0.40, "good_one": 0.44, "bad": 0.35, "yolo": 0.41}


def test_verdicts_follow_from_the_runs_alone() -> None:
    results = analyse(make_results(SCORES, seeds=8, kinds={"yolo": "external"}))
    words = {each["name"]: each["verdict"]["word"] for each in results["comparisons"]}
    assert (words["good_one"], words["bad"]) == ("better", "worse")
    good = results["comparisons"][0]["metrics"]["AP"]
    assert good["difference"] == pytest.approx(4.0, abs=0.3)
    assert good["interval"][0] < good["difference"] < good["interval"][1]
    assert len(good["per_seed"]) == 8


def test_a_failed_run_takes_its_seed_out_of_the_comparison() -> None:
    results = make_results({"base": 0.4, "other": 0.42}, seeds=4)
    failed = next(run for run in results["runs"] if (run["variant"], run["seed"]) == ("other", 2))
    failed |= {"status": "failed", "error": "the loss was not finite <here>"}
    done = analyse(results)
    assert done["comparisons"][0]["seeds"] == [0, 1, 3]
    assert done["variants"][1]["failed"] == [{"seed": 2, "error": "the loss was not finite <here>"}]


def test_other_terms_of_training_are_warned_of() -> None:
    results = make_results({"base": 0.4, "other": 0.42}, seeds=2)
    others = [run for run in results["runs"] if run["variant"] == "other"]
    for run in others:
        run["start"] = {**run["start"], "lr": 1e-4, "pretrained": "backbone", "warm_started_parts": 2}
    others[1] |= {"code": "1", "machine": {**others[1]["machine"], "precision": "bf16"}}
    done = analyse(results)
    assert done["variants"][1]["unequal"] == [
        "pretrained: backbone, the base nothing",
        "parts that imitated what they replace before the training: 2, the base 0",
        "peak learning rate 0.0001, the base 0.0005",
    ]
    for text in ("'other': peak learning rate", "made in bf16 and fp32", "2 states of the code"):
        assert any(text in warning for warning in done["warnings"]), done["warnings"]
    assert analyse(done)["warnings"] == done["warnings"], "nothing is said twice"
    assert analyse(make_results({"base": 0.4, "other": 0.42}))["warnings"] == []


def test_a_metric_that_most_resamples_lack_has_no_interval() -> None:
    results = make_results({"base": 0.4, "other": 0.42}, seeds=2)
    rare = np.where(np.arange(200) % 3 == 0, 0.5, np.nan)
    for run in results["runs"]:
        run["resamples"] |= pack_resamples({"AP/cat": rare})
    metrics = analyse(results)["comparisons"][0]["metrics"]
    assert "AP/cat" not in metrics and "AP" in metrics


def test_resamples_are_kept_finer_than_they_are_uncertain() -> None:
    values = np.array([0.0, 0.123456, 1.0, np.nan])
    packed = pack_resamples({"AP": values})["AP"]
    np.testing.assert_allclose(unpack_resamples(packed), values, atol=1e-5)


def test_holm_counts_the_variants_that_never_finished() -> None:
    scores = {"base": 0.40, "one": 0.42, "two": 0.42, "three": 0.42, "four": 0.42}
    results = make_results(scores, seeds=6)
    for run in results["runs"]:
        if run["variant"] in ("two", "three", "four"):
            run |= {"status": "failed", "error": "diverged"}
    (alone,) = analyse(results)["comparisons"]
    assert alone["verdict"]["level"] == pytest.approx(0.05 / 4)
    assert not alone["verdict"]["sign_flip_counts"], "6 seeds are too few for four variants, also if three diverged"


def test_a_study_in_the_middle_says_so() -> None:
    results = make_results({"base": 0.40, "one": 0.42, "yolo": 0.41}, seeds=4, kinds={"yolo": "external"})
    results["runs"] = [run for run in results["runs"] if run["seed"] < 2 or run["variant"] == "base"]
    results["runs"][0] |= {"status": "failed", "error": "diverged"}
    first, *_ = analyse(results)["warnings"]
    assert first.startswith("the study is not whole: 2 of its runs are not there yet")


def test_where_nothing_was_learnt_the_same_means_nothing() -> None:
    results = make_results({"base": 0.0, "one": 0.0}, seeds=6)
    for run in results["runs"]:
        run["test"] = dict.fromkeys(run["test"], 0.0)
        run["resamples"] = pack_resamples(dict.fromkeys(run["test"], np.zeros(200)))
    done = analyse(results)
    assert done["comparisons"][0]["verdict"]["word"] == "same within the margin"
    assert [warning[:45] for warning in done["warnings"]] == ["the base reaches AP 0, no more than the margi"]


def test_a_variant_that_has_no_effect_is_told() -> None:
    results = make_results({"base": 0.40, "one": 0.42, "nothing": 0.40}, seeds=3)
    for seed in range(3):
        base, _, same = results["runs"][3 * seed : 3 * seed + 3]
        same |= {key: base[key] for key in ("test", "resamples")}
    (warning,) = analyse(results)["warnings"]
    assert warning.startswith("'nothing' has the very numbers of the base with every seed")


def test_runs_of_several_versions_of_torch_are_warned_of() -> None:
    results = make_results({"base": 0.40, "one": 0.42}, seeds=2)
    for run, version in zip(results["runs"], ("2.14.1", "2.14.1", "2.15.0", "2.15.0"), strict=True):
        run["machine"] = {**run["machine"], "torch": version}
    assert analyse(results)["warnings"] == ["the runs were made with torch 2.14.1 and 2.15.0"]


def test_the_date_is_that_of_the_study_and_not_of_its_report() -> None:
    assert analyse({**make_results({"base": 0.4, "one": 0.42}, seeds=2), "date": "2020-02-02"})["date"] == "2020-02-02"


def test_predictions_of_another_tool_that_look_wrong_are_doubted() -> None:
    results = make_results({"base": 0.40, "yolo": 0.03, "fine": 0.38}, kinds={"yolo": "external", "fine": "external"})
    for run in results["runs"]:
        if run["variant"] != "base":
            run |= {"pictures_without_detections": 0, "lowest_score": 0.001}
    (doubt,) = analyse(results)["warnings"]
    assert doubt.startswith("'yolo' reaches AP 3.") and "pixels of the whole picture" in doubt


def test_every_key_of_the_results_is_in_the_docs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text("utf-8").partition("## `results.json`")[2]
    results = with_look(analyse(make_results(SCORES, kinds={"yolo": "external"})))
    comparison, timed = results["comparisons"][0], results["latency"][0]
    levels = [results, results["data"], results["settings"], comparison, comparison["verdict"], results["looks"][0]]
    levels += [comparison["metrics"]["AP"], *results["variants"], *results["runs"], results["runs"][0]["start"]]
    levels += [timed, *timed["files"]]
    keys = {key for level in levels for key in level} | set(timed["files"][0]["total"])
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


def test_another_tools_runs_are_paired_in_order_and_what_has_no_partner_is_said() -> None:
    results = make_results({"base": 0.40, "yolo": 0.42}, seeds=4, kinds={"yolo": "external"})
    results["runs"][0] |= {"status": "failed", "error": "diverged"}  # seed 0 of the base
    done = analyse(results)
    assert done["comparisons"][0]["seeds"] == [1, 2, 3]
    base, own = ([run["test"]["AP"] for run in results["runs"] if run["variant"] == name] for name in ("base", "yolo"))
    expected = [100 * (mine - theirs) for theirs, mine in zip(base[1:], own[:3], strict=True)]
    assert done["comparisons"][0]["metrics"]["AP"]["per_seed"] == pytest.approx(expected)
    assert "'yolo' has 4 files, and the base 3 runs to pair them with: the first 3 are compared" in done["warnings"]
