from __future__ import annotations

from typing import Any

import pytest

from detrofit.comparison.analysis import analyse
from detrofit.comparison.looks import dropped_variants, with_look
from detrofit.comparison.report.join import join_studies
from tests.comparison.report_cases import BASE, Drawn, drawn_study

ONE, TWO = Drawn("one", 1.0, changes={"loss.box": "nwd"}), Drawn("two", -1.0, changes={"loss.box": "siou"})
CONTROL = Drawn("longer", 0.2, kind="control", changes={"train.epochs": 50})


def seen(*variants: Drawn, seeds: int = 6, looks: Any = (), **settings: Any) -> dict[str, Any]:
    """A study that was run to its end, in a folder that has such looks."""
    drawn = drawn_study((BASE, *variants), seeds=seeds, epochs=0)
    return with_look(analyse({**drawn, "looks": list(looks), "settings": {**drawn["settings"], **settings}}))


def test_a_first_look_needs_no_word_and_a_second_one_the_same_is_none() -> None:
    first = seen(ONE)
    assert first["warnings"] == [] and len(first["looks"]) == 1
    again = seen(ONE, looks=first["looks"])
    assert again["warnings"] == [] and again["looks"] == first["looks"]


def test_more_seeds_after_a_verdict_add_to_the_chance_of_a_false_one() -> None:
    looks = seen(ONE, seeds=4, looks=seen(ONE, seeds=3)["looks"])["looks"]
    (warning,) = seen(ONE, seeds=6, looks=looks)["warnings"]
    assert "with 3, 4 seeds" in warning and warning.endswith("up to 15 %")
    assert not any("seeds" in each for each in seen(TWO, seeds=6, looks=looks)["warnings"])


def test_a_margin_that_was_chosen_after_a_look_is_told() -> None:
    moved = seen(ONE, margin=2.0, looks=seen(ONE)["looks"])
    (warning,) = moved["warnings"]
    assert warning.startswith("the margin was 0.5 AP when these runs were first judged, and is 2 now")
    assert seen(ONE, looks=moved["looks"])["warnings"] == [], "back at what was chosen before"


def test_a_variant_that_was_left_out_counts_unless_it_was_renamed() -> None:
    looks = seen(ONE, TWO, CONTROL)["looks"]
    results = seen(ONE, looks=looks)
    assert dropped_variants(results) == ["two"], "a control is no claim"
    assert results["comparisons"][0]["verdict"]["level"] == pytest.approx(0.025)
    assert "and 2 variants" in results["reach"]
    assert dropped_variants(seen(Drawn("other name", 1.0, changes=ONE.changes), TWO, looks=looks)) == []


@pytest.mark.parametrize("other", ["data", "base", "seeds"])
def test_another_study_in_the_same_folder_owes_nothing(other: str) -> None:
    results = seen(ONE, TWO)
    later = drawn_study((BASE, ONE), epochs=0)
    if other == "data":
        later["data"]["digest"] = "1"
    if other == "base":
        later["variants"][0]["configuration"]["train"]["epochs"] = 1
    if other == "seeds":
        later["settings"]["seeds"] = [seed + 10 for seed in later["settings"]["seeds"]]
        later["runs"] = [{**run, "seed": run["seed"] + 10} for run in later["runs"]]
    assert analyse({**later, "looks": results["looks"]})["warnings"] == []


def test_joined_studies_bring_their_looks() -> None:
    joined = join_studies([seen(ONE), seen(TWO)])
    assert len(joined["looks"]) == 2 and joined["warnings"] == []
