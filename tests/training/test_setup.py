"""What a training is made of, before its first update."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from torch import nn

from detrofit import DetrofitError
from detrofit.training import keeper
from detrofit.training.devices import Devices, with_synchronised_norms
from detrofit.training.prepare import set_training_mode
from detrofit.training.setup import set_up


def test_frozen_norms_stay_frozen_where_processes_synchronise_the_others(tiny, monkeypatch):
    """As on several GPUs, where placing a model gives it other norms."""
    monkeypatch.setattr(Devices, "place", lambda devices, model: with_synchronised_norms(model))
    training = set_up(
        tiny(**{"train.frozen_norms": ["backbone.stage1"], "train.freeze": ["backbone.stem"]}), None, ExitStack()
    )
    set_training_mode(training.model, training.frozen_norms)
    norms = {name: each for name, each in training.model.named_modules() if isinstance(each, nn.SyncBatchNorm)}
    resting = {name for name, norm in norms.items() if not norm.training}
    assert resting == {name for name in norms if name.startswith(("backbone.stage1.", "backbone.stem."))} != set()
    assert not any(parameter.requires_grad for name in resting for parameter in norms[name].parameters())


def test_processes_share_a_batch_of_validation_as_they_do_in_training(tiny, monkeypatch):
    training, batches = set_up(tiny(), None, ExitStack()), []

    def note(*given, batch: int, **options):
        batches.append(batch)
        raise InterruptedError

    monkeypatch.setattr(keeper, "validate", note)
    monkeypatch.setattr(training.devices, "share_buffers", lambda model: None)
    for processes in (1, 2):
        monkeypatch.setattr(training.devices, "world_size", processes)
        with pytest.raises(InterruptedError):
            training.keeper.validate(training.progress)
    assert batches == [4, 2]


def test_a_batch_whose_norms_would_see_one_value_is_refused_before_any_work(tiny):
    with pytest.raises(DetrofitError, match=r"at 32 x 32 pixels a batch of one picture .* larger --batch or --imgsz"):
        set_up(tiny(**{"train.batch": 1}), None, ExitStack())
    assert not list(tiny().runs.iterdir())
    assert set_up(tiny(**{"train.batch": 1, "augment.multiscale": 0}), None, ExitStack()).stepper.sizes == []
