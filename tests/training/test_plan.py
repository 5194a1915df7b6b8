from __future__ import annotations

import pytest

from detrofit import DetrofitError
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.training.plan import make_plan


def plan_of(steps_per_epoch: int, pretrained: str = "nothing", **settings):
    values = merge_dotted({"model": "rtdetr-n", "data": "data"}, settings)
    return make_plan(load_experiment(values), steps_per_epoch, pretrained=pretrained)


def test_defaults_suit_few_pictures():
    plan = plan_of(26)  # 205 pictures in batches of 8
    assert plan.epochs == 120 and plan.total_steps == 3120
    assert plan.warmup_steps == 156
    assert plan.ema_decay == pytest.approx(1 - 10 / 3120), "the average spans a tenth of the training, not 10,000 steps"
    assert plan.lr > plan_of(26, "model").lr, "random numbers need larger steps than a finished model"


def test_defaults_suit_many_pictures():
    plan = plan_of(12500, "model")  # 100,000 pictures in batches of 8
    assert plan.epochs == 12
    assert plan.warmup_steps == 2000 and plan.ema_decay == pytest.approx(0.9999, abs=1e-4)
    assert plan.backbone_lr_factor == 0.1


def test_the_learning_rate_warms_up_and_comes_down():
    plan = plan_of(100, **{"train.epochs": 10, "train.warmup_steps": 50, "train.final_lr": 0.01})
    factors = [plan.lr_factor(step) for step in range(plan.total_steps)]
    assert factors[0] == pytest.approx(1 / 51) and factors[49] == pytest.approx(50 / 51)
    assert factors[50] == 1.0
    assert factors[50:] == sorted(factors[50:], reverse=True)
    assert factors[-1] == pytest.approx(0.01, abs=1e-3)
    constant = plan_of(100, **{"train.epochs": 10, "train.schedule": "constant"})
    assert constant.lr_factor(999) == 1.0


def test_the_learning_rate_follows_the_whole_batch():
    single = plan_of(100, "model", **{"train.batch": 4})
    accumulated = plan_of(100, "model", **{"train.batch": 4, "train.accumulate": 4})
    assert accumulated.lr == pytest.approx(2 * single.lr)


@pytest.mark.parametrize(
    ("epochs", "stop", "strong"), [(72, None, 70), (120, None, 116), (8, None, 7), (8, 0, 8), (3, 9, 0)]
)
def test_the_last_epochs_are_weak(epochs, stop, strong):
    assert plan_of(10, **{"train.epochs": epochs, "augment.stop_epochs": stop}).strong_epochs == strong


def test_more_warmup_than_steps_is_refused():
    with pytest.raises(DetrofitError, match=r"warmup_steps = 500 is no less than the 100 steps"):
        plan_of(10, **{"train.epochs": 10, "train.warmup_steps": 500})
