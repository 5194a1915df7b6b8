from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from detrofit.training.ema import ModelAverage


def test_the_average_follows_with_a_growing_decay():
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    average = ModelAverage(model, decay=0.9, ramp=5.0)
    expected = 0.0
    for step in range(20):
        nn.init.constant_(model.weight, step + 1.0)
        average.update(step)
        decay = 0.9 * (1 - math.exp(-(step + 1) / 5.0))
        expected = decay * expected + (1 - decay) * (step + 1)
        assert average.model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert not average.model.training and not average.model.weight.requires_grad


def test_statistics_are_averaged_and_counters_copied():
    model = nn.BatchNorm1d(2)
    average = ModelAverage(model, decay=0.5, ramp=1e-9)
    model.train()(torch.randn(8, 2) + 10)
    average.update(0)
    torch.testing.assert_close(average.model.running_mean, model.running_mean / 2)
    assert average.model.num_batches_tracked == 1
