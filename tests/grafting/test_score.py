"""Scores of grafts against the teacher, and what is told of too little difference."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from detrofit import DetrofitError
from detrofit.grafting.score import NO_SCORE, Scorer, check_library, control, first_candidates, settled
from detrofit.grafting.workshop import open_workshop
from tests.grafting.conftest import bare_workshop, quick


def test_without_a_swap_nothing_is_lost(model_file, drawn, tmp_path):
    workshop = open_workshop(model_file, drawn, tmp_path / "out", quick())
    scorer = Scorer(workshop)
    nothing = scorer.score(settled(workshop, [], {}))
    assert (nothing.loss, nothing.distance) == pytest.approx((0, 0), abs=1e-3)
    assert nothing.ap == scorer.teacher.ap and 0 < nothing.threshold < 1
    assert (nothing.ap_low, nothing.ap_high) == (nothing.ap, nothing.ap), "the same model, whatever is drawn"
    swapped = scorer.score(settled(workshop, first_candidates(workshop), {}))
    assert swapped.distance > 0.1


def test_a_teacher_that_answers_in_no_numbers_has_nothing_to_teach(tmp_path):
    scorer = SimpleNamespace(teacher=NO_SCORE, workshop=bare_workshop(tmp_path, file="model.safetensors"))
    with pytest.raises(DetrofitError, match=r"the AP of model\.safetensors on 'val' is nan: there is nothing"):
        Scorer.check(scorer)


def judged(folder: Path, loss: float, error: float) -> list[str]:
    """The notes on a control that has been scored so."""
    workshop = bare_workshop(folder)
    workshop.keep("control.json", asdict(replace(NO_SCORE, loss=loss, loss_error=error)))
    control(workshop, None)
    return workshop.notes


@pytest.mark.parametrize("loss", [0.01, -0.01])
def test_random_numbers_that_make_no_difference_end_a_graft(tmp_path, loss):
    with pytest.raises(DetrofitError, match=r"'val' \(6 pictures\) is too small .* by -?0\.010 ± 0\.030"):
        judged(tmp_path, loss, 0.03)


def test_random_numbers_that_are_better_for_sure_are_noted_and_worse_ones_are_as_they_should_be(tmp_path):
    (note,) = judged(tmp_path / "better", -0.09, 0.03)
    assert "improve the loss by 0.090 ± 0.030" in note and "these slots hardly matter" in note
    assert judged(tmp_path / "worse", 0.5, 0.1) == []
    assert judged(tmp_path / "no numbers", math.nan, math.nan) == []


def checked(folder: Path, *slots: tuple[float, ...], loss_error: float = 0.01) -> list[str]:
    """The notes on candidates with these totals, each with an error of 0.1, where random numbers lose 2."""
    keys = [[f"{number}={place}" for place in range(len(totals))] for number, totals in enumerate(slots)]
    scores = {
        key: replace(NO_SCORE, total=total, total_error=0.1, loss_error=loss_error)
        for names, totals in zip(keys, slots)
        for key, total in zip(names, totals)
    }
    found = [SimpleNamespace(candidates=[SimpleNamespace(key=key) for key in names]) for names in keys]
    workshop = bare_workshop(folder, slots=found)
    check_library(workshop, scores, replace(NO_SCORE, loss=2.0))
    return workshop.notes


def test_candidates_that_noise_alone_tells_apart_are_noted(tmp_path):
    clear, alike, alone = (0.1, 0.5, 0.2), (0.1, 0.25, math.nan), (0.1, math.nan)
    (note,) = checked(tmp_path, alike, clear, alike, alone)
    assert note.startswith("in 2 of 3 slots candidates differ by less than the noise of 6 pictures")
    assert checked(tmp_path, alike, clear) == checked(tmp_path, alone) == []


def test_a_split_that_cannot_tell_a_good_candidate_is_told_with_the_size_that_could(tmp_path):
    (note,) = checked(tmp_path, (0.1, 0.5), (0.2, 0.9), loss_error=0.1)
    assert note == (
        "6 pictures are too few to tell a good candidate: its loss is known to ± 0.200, which is 10% of what random "
        "numbers in all slots lose (limit 5%); some 24 would do"
    )


def test_a_library_that_diverged_whole_is_one_line(tmp_path):
    with pytest.raises(DetrofitError, match="none of the 3 candidates answers in numbers, all have diverged"):
        checked(tmp_path, (math.nan, math.nan), (math.nan,))
