from __future__ import annotations

import pytest
import torch
from torch import nn

from detrofit import DetrofitError
from detrofit.training.ema import ModelAverage
from detrofit.training.finite import first_fault
from detrofit.training.loop import train


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))


def test_a_gradient_at_fault_is_named_as_the_backward_pass_meets_it():
    net, images = model(), torch.ones(3, 2)
    run = lambda: {"loss": (net(images) * 0).sqrt().sum()}  # noqa: E731 - finite, with an infinite slope
    assert first_fault(net, run, images) == "the gradient of 2.bias"


def test_a_loss_at_fault_is_named():
    net, images = model(), torch.ones(3, 2)
    run = lambda: {"good": net(images).sum(), "bad": net(images).sum() / 0}  # noqa: E731
    assert first_fault(net, run, images) == "the loss bad"


def test_nothing_at_fault_is_said_so_and_leaves_no_gradient_or_hook():
    net, images = model(), torch.ones(3, 2)
    assert first_fault(net, lambda: {"loss": net(images).sum()}, images) is None
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks for module in net.modules())


def test_a_frozen_weight_is_no_obstacle():
    net, images = model(), torch.ones(3, 2)
    net[0].requires_grad_(False)
    assert first_fault(net, lambda: {"loss": (net(images) * 0).sqrt().sum()}, images) == "the gradient of 2.bias"


def test_a_diverged_average_is_one_line_before_it_is_scored(tiny, monkeypatch):
    from detrofit.training import keeper

    def spoilt(self, step, real=ModelAverage.update):
        real(self, step)
        self.model.encoder.input_projection["stride8"].conv.weight.data[0] = float("inf")

    monkeypatch.setattr(ModelAverage, "update", spoilt)
    monkeypatch.setattr(keeper, "validate", lambda *arguments, **options: pytest.fail("it was scored"))
    with pytest.raises(DetrofitError, match=r"diverged: after 3 steps the averaged weight encoder\.input_projection\."):
        train(tiny())
