"""Scores of grafts: against the teacher whose norms were measured anew as theirs are."""

from __future__ import annotations

import pytest

from detrofit.grafting.score import Scorer, settled
from detrofit.grafting.workshop import open_workshop
from tests.grafting.conftest import quick


def test_norms_measured_anew_count_for_no_graft(model_file, drawn, tmp_path):
    workshop = open_workshop(model_file, drawn, tmp_path / "out", quick())
    scorer = Scorer(workshop)
    assert scorer.norms_alone.distance > 0, "by themselves they move the outputs"
    nothing = scorer.score(settled(workshop, [], {}))
    assert (nothing.loss, nothing.loss_error) == (0, 0)
    assert nothing.distance == pytest.approx(0, abs=1e-5) and nothing.total == nothing.distance
    as_it_is = scorer.score(workshop.teacher)
    assert as_it_is.distance > 0 and as_it_is.ap == scorer.teacher.ap
