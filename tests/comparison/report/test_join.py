from __future__ import annotations

import json
from pathlib import Path

import pytest

from detrofit.cli import main
from detrofit.comparison.report import files
from detrofit.comparison.report.join import join_studies
from detrofit.errors import DetrofitError
from tests.comparison.report_cases import BASE, NO_CHARTS, Drawn, drawn_study, fail

ONE, TWO = Drawn("one", 1.0, changes={"loss.box": "nwd"}), Drawn("two", -1.0, changes={"loss.box": "siou"})


def test_variants_of_both_are_compared_and_corrected_together() -> None:
    first, second = drawn_study((BASE, ONE), epochs=2, name="a"), drawn_study((BASE, TWO), epochs=2, name="b")
    joined = join_studies([first, second])
    assert [line["name"] for line in joined["variants"]] == ["base", "one", "two"]
    assert joined["study"] == "a + b"
    assert len(joined["runs"]) == 18, "the base's six runs count once"
    levels = sorted(each["verdict"]["level"] for each in joined["comparisons"])
    assert levels[0] == pytest.approx(0.025), "Holm's correction is for two now"
    assert [each["source"] for each in joined["latency"]] == ["study", "b"], "times of two sittings are not mixed"


def test_measurements_of_one_name_stay_apart_whatever_the_studies_are_called() -> None:
    studies = []
    for name, variant, factor in (("a", ONE, 1.0), ("b", TWO, 2.0), ("b", Drawn("three", 0.5), 3.0)):
        study = drawn_study((BASE, variant), epochs=2, name=name)
        own = {**study["latency"][0], "rounds": 50 * factor}
        studies.append({**study, "latency": [own, {**own, "source": "board.json", "rounds": 60 * factor}]})
    names = [each["source"] for each in join_studies(studies)["latency"]]
    assert names == ["study", "board.json", "b", "b, board.json", "b (2)", "b, board.json (2)"]


def test_the_same_data_may_be_called_otherwise() -> None:
    first, second = drawn_study((BASE, ONE), epochs=2, name="a"), drawn_study((BASE, TWO), epochs=2, name="b")
    first["variants"][0]["configuration"]["data"], second["variants"][0]["configuration"]["data"] = "cards", "data.yaml"
    assert len(join_studies([first, second])["variants"]) == 3


def test_more_seeds_of_the_same_variants_are_added() -> None:
    whole = drawn_study((BASE, ONE), seeds=8, epochs=2)
    parts = [
        {**whole, "runs": [run for run in whole["runs"] if run["seed"] in seeds],
         "settings": {**whole["settings"], "seeds": list(seeds)}}
        for seeds in (range(5), range(3, 8))
    ]  # fmt: skip
    joined = join_studies(parts)
    assert joined["settings"]["seeds"] == list(range(8))
    assert joined["comparisons"][0]["metrics"] == whole["comparisons"][0]["metrics"]


def test_a_finished_run_replaces_the_failed_one() -> None:
    study = drawn_study((BASE, ONE), epochs=2)
    broken = fail(study, "one", 2, "killed")
    for order in ([study, broken], [broken, study]):
        joined = join_studies(order)
        assert joined["variants"][1]["failed"] == [] and joined["variants"][1]["done"] == 6


def test_what_cannot_be_joined_is_said() -> None:
    first, second = drawn_study((BASE, ONE), epochs=2, name="a"), drawn_study((BASE, ONE), epochs=2, name="b")
    second["data"]["digest"] = "other"
    second["settings"]["margin"] = 1.0
    second["variants"][0]["configuration"]["train"]["epochs"] = 7
    second["variants"][1]["configuration"]["slots"]["loss.box"] = {"part": "ciou"}
    with pytest.raises(DetrofitError) as caught:
        join_studies([first, second])
    line = str(caught.value)
    assert "'a' and 'b' cannot be joined" in line and "\n" not in line
    for reason in ("the data differ", "margin differs (0.5, 1.0)", "the bases differ in train.epochs", "what 'one' is"):
        assert reason in line


def test_every_two_of_several_studies_must_go_together() -> None:
    other = Drawn("one", 1.0, changes={"loss.box": "siou"})
    studies = [drawn_study(pair, epochs=2, name=name) for pair, name in (((BASE, TWO), "a"), ((BASE, ONE), "b"))]
    with pytest.raises(DetrofitError, match=r"'b' and 'c' cannot be joined: what 'one' is differ in loss\.box"):
        join_studies([*studies, drawn_study((BASE, other), epochs=2, name="c")])


def test_more_seeds_than_the_exact_test_takes_are_refused() -> None:
    study = {**drawn_study((BASE, ONE), seeds=2, epochs=0), "latency": []}
    parts = [{**study, "settings": {**study["settings"], "seeds": list(seeds)}} for seeds in (range(30), range(30, 60))]
    with pytest.raises(DetrofitError, match="together these are 60 seeds; the sign-flip test is exact up to 40"):
        join_studies(parts)


def test_two_runs_under_one_name_are_not_mixed() -> None:
    first, second = drawn_study((BASE, ONE), epochs=2), drawn_study((BASE, ONE), epochs=2)
    next(run for run in second["runs"] if (run["variant"], run["seed"]) == ("one", 3))["identity"] = "another"
    with pytest.raises(DetrofitError, match="both have a run of one seed 3"):
        join_studies([first, second])


def test_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "study_charts", lambda content: NO_CHARTS)
    for name, variant in (("a", ONE), ("b", TWO)):
        study = {**drawn_study((BASE, variant), seeds=2, epochs=0, name=name), "latency": []}
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(study))
    folders = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert main(["report", *folders]) == 2
    assert "give --out" in capsys.readouterr().err
    assert main(["report", *folders, "--out", str(tmp_path / "both")]) == 0
    page = (tmp_path / "both" / "report.html").read_text("utf-8")
    assert "<h1>a + b</h1>" in page and "two" in page
    assert not (tmp_path / "a" / "report.html").exists()
