"""Who wins, and what is said about it, on numbers made for the purpose."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from detrofit.grafting.assemble import Assembled
from detrofit.grafting.budget import parse_budget
from detrofit.grafting.cost import Cost
from detrofit.grafting.library import KEEP
from detrofit.grafting.results import _numbers, front_of, is_better_finished, kept_of, winner_of
from detrofit.grafting.score import NO_SCORE, Score
from detrofit.grafting.verdict import verdict

TEACHER = Cost(10.0, 9.9, 10.1, 1.0, 1.0, 1.0, 2_000_000, 7)
POINT = {"imgsz": [160, 192], "num_queries": 50, "decoder_layers": 2, "ratio": 0.6, "ap": 0.49,
         "parameters": TEACHER.parameters}  # fmt: skip
AS_TRAINED = Score(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.7)
RANDOM = Score(4.0, 0.1, 4.0, 0.1, 8.0, 0.1, 0.0, 0.0)  # random numbers in all slots


def model(name: str, loss: float, ratio: float, parameters: float = 1.0, error: float = 0.05) -> Assembled:
    ap = 0.5 - loss / 10
    score = Score(loss, error, 0.1, 0.01, loss + 0.1, error, ap, 0.7, ap_low=ap - 0.02, ap_high=ap + 0.01)
    ends = (ratio, ratio - 0.02, ratio + 0.02)
    cost = Cost(*(10 * each for each in ends), *ends, int(parameters * TEACHER.parameters), 7)
    return Assembled(name, (f"slot={name}",), loss, 10 * ratio, score, cost, True, Path(name))


def workshop(*budgets: str) -> Any:
    return SimpleNamespace(settings=SimpleNamespace(budgets=tuple(map(parse_budget, budgets))))


def told(
    assembled: list[Assembled], *budgets: str, knobs: Any = (), finished: float | None = None, faster: bool = True,
    timed: bool = True,
) -> str:  # fmt: skip
    """The verdict on results that hold these models, of that AP after the fine-tuning."""
    winner = winner_of(workshop(*budgets), assembled, TEACHER, RANDOM)
    after = None if finished is None else asdict(AS_TRAINED) | {"ap": finished}
    candidate = {"cost": {"ratio_high": 0.9 if faster else 1.01}}
    return verdict(
        {
            "winner": winner.name if winner else KEEP,
            "settings": {"budgets": [asdict(parse_budget(text)) for text in budgets], "runtime": "openvino"},
            "teacher": {"cost": asdict(TEACHER), "score": asdict(AS_TRAINED)},
            "assembled": [
                {
                    "name": each.name,
                    "cost": asdict(each.cost),
                    "score": _numbers(asdict(each.score)),
                    "timed": timed,
                    "finished": after,
                    "file_is_finished": finished is not None and finished >= each.score.ap,
                }
                for each in assembled
            ],
            "candidates": [candidate] * 3,
            "knobs": list(knobs),
            "finished_teacher": after and after | {"ap": 0.6},
        }
    )


def test_the_least_loss_within_the_budget_as_measured_wins():
    slow, good, poor = model("slow", 0.0, 0.72), model("good", 0.2, 0.68), model("poor", 0.4, 0.5)
    assert winner_of(workshop("0.7x"), [slow, poor, good], TEACHER, RANDOM) is good
    assert winner_of(workshop("0.7x", "0.6xparams"), [slow, poor, good], TEACHER, RANDOM) is None
    said = told([slow, poor, good], "0.7x")
    assert said.startswith(
        "good takes 0.68 (95 %: 0.66 to 0.70) of the latency and 1.00 of the parameters; AP on the search split 48.0 "
        "(against the original 95 %: 46.0 to 49.0), the original's is 50.0; loss +0.200 ± 0.050."
    )


def test_parameters_count_without_time_where_they_are_asked_for():
    small = model("small", 0.3, 1.0, parameters=0.5)
    assert winner_of(workshop("0.6xparams"), [small, model("fast", 0.1, 0.7)], TEACHER, RANDOM) is small
    assert kept_of([small], small) == [small], "behind the front of latency, but handed over"


def test_without_a_budget_the_fastest_wins_that_loses_no_more_than_chance():
    same, lossy = model("same", 0.09, 0.8), model("lossy", 0.11, 0.5)
    assert winner_of(workshop(), [same, lossy], TEACHER, RANDOM) is same
    assert winner_of(workshop(), [lossy], TEACHER, RANDOM) is None
    unknown = model("unknown", 0.3, 0.4, error=0.2)
    assert winner_of(workshop(), [unknown, same], TEACHER, RANDOM) is same, "few pictures excuse any loss"
    assert winner_of(workshop(), [same], TEACHER, NO_SCORE) is same, "random numbers that answer in none are no limit"
    assert "nothing that was assembled is faster in openvino for sure and known to lose next" in told([lossy])


def test_a_budget_that_the_original_meets_keeps_it_unless_something_loses_less():
    assert winner_of(workshop("3Mparams"), [model("a", 0.1, 0.8)], TEACHER, RANDOM) is None
    assert "it is within 3Mparams itself, and nothing" in told([model("a", 0.1, 0.8)], "3Mparams")
    better = model("better", -0.3, 0.8)
    assert winner_of(workshop("12ms"), [better], TEACHER, RANDOM) is better


def test_what_was_predicted_to_fit_and_does_not_is_named_as_the_nearest():
    said = told([model("near", 0.1, 0.75), model("far", 0.0, 0.9)], "0.7x")
    assert "nothing is within 0.7x and faster for sure; the nearest, near, takes 0.75 (95 %: 0.73 to 0.77)" in said


def test_where_nothing_is_faster_it_says_so():
    assert "none of the 3 candidates makes it faster in openvino" in told([], "0.7x", faster=False)


def test_free_knobs_that_do_as_well_are_told():
    good = model("good", 0.2, 0.68)
    assert "no graft is needed for that: 192 x 160 pixels, 50 queries and 2 decoder layers give AP 49.0" in told(
        [good], "0.7x", knobs=[POINT]
    )
    assert "no graft is needed" not in told([good], "0.7x", knobs=[POINT | {"ap": 0.3}])
    assert "no graft is needed" not in told([good], "0.7x", knobs=[POINT | {"ratio": 0.9}])
    said = told([good], "0.7x", knobs=[POINT], finished=0.55)
    assert "Fine-tuned, its AP is 55.0, that of the original fine-tuned alike 60.0. Without any graft and" in said
    assert "no graft is needed" not in said, "what is handed over is the fine-tuned model"


def test_a_fine_tuning_that_brought_nothing_is_told_and_not_handed_over():
    said = told([model("good", 0.2, 0.68)], "0.7x", finished=0.47)
    assert "Fine-tuned, its AP is 47.0" in said and "the file is the one from before" in said
    assert "from before" not in told([model("good", 0.2, 0.68)], "0.7x", finished=0.48)
    score = replace(AS_TRAINED, ap=0.47)
    assert not is_better_finished(model("good", 0.2, 0.68), {"good": {"score": score}})
    assert is_better_finished(model("good", 0.4, 0.68), {"good": {"score": score}})


def test_a_latency_that_no_device_has_measured_is_not_said_to_be():
    said = told([model("good", 0.2, 0.68)], "0.7x", timed=False)
    assert said.startswith("good should take, by what the device has timed of its swaps alone, 0.68")


def test_fewer_pixels_do_not_meet_a_budget_of_parameters():
    small = model("small", 0.3, 0.9, parameters=0.5)
    assert "no graft is needed" not in told([small], "0.6xparams", knobs=[POINT])
    assert "no graft is needed" in told([small], "0.6xparams", knobs=[POINT | {"parameters": 1_000_000}])


def test_where_no_graft_meets_the_budget_the_free_knobs_that_do_are_told():
    said = told([model("near", 0.1, 0.75)], "0.7x", knobs=[POINT, POINT | {"ratio": 0.8, "ap": 0.5}])
    assert said.endswith(
        "Without any graft, 192 x 160 pixels, 50 queries and 2 decoder layers give AP 49.0 at 0.60 of the latency; "
        "`detrofit trade` writes that model."
    )
    assert "Without" not in told([], "0.5x", knobs=[POINT]), "it does not meet it either"
    assert "Without" not in told([], "12ms", knobs=[POINT]), "the original itself does"


def test_a_model_that_is_not_faster_for_sure_or_not_sound_is_not_said_to_lose_more():
    barely = model("barely", -0.2, 0.99)
    assert told([barely], "20ms").endswith("nothing that was assembled loses less and is faster for sure.")
    broken = Assembled("broken", (), 0.0, 5.0, NO_SCORE, model("small", 0, 0.8, 0.5).cost, True, Path("broken"))
    assert "the nearest, whole, takes" in told([broken, model("whole", 0.1, 0.8)], "0.9xparams")


def test_the_front_holds_what_nothing_beats_and_no_model_without_numbers():
    good, worse, slower = model("good", 0.2, 0.6), model("worse", 0.3, 0.6), model("slower", 0.1, 1.1)
    broken = Assembled("broken", (), 0.0, 5.0, NO_SCORE, good.cost, True, Path("broken"))
    assert front_of([worse, slower, good, broken]) == [good]
    assert winner_of(workshop("0.7x"), [broken, worse], TEACHER, RANDOM) is worse


@pytest.mark.parametrize("budget", ["0.7x", "0.6xparams", "3ms"])
def test_there_is_always_a_sentence(budget):
    assert told([], budget).startswith("Keep the original: ")
