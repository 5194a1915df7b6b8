"""What a training is made of, before its first update."""

from __future__ import annotations

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from detrofit import DetrofitError
from detrofit.training import keeper
from detrofit.training.devices import Devices, with_synchronised_norms
from detrofit.training.prepare import set_training_mode
from detrofit.training.setup import _go_on, set_up
from detrofit.training.state import Progress


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


@pytest.mark.parametrize("saved_with_one", [True, False])
def test_a_scaler_goes_on_where_the_state_has_one_and_begins_anew_otherwise(tmp_path, saved_with_one):
    """As for a run that began on a GPU with bf16 and goes on with fp16 on an older one."""
    before, scaler = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (2.0, 8.0))
    devices = SimpleNamespace(accelerator=SimpleNamespace(scaler=scaler), is_main=True)
    saved = {"model": {}, **({"scaler": before.state_dict()} if saved_with_one else {})}
    _go_on(tmp_path, saved, Progress(), devices, model=nn.Module())
    assert scaler.get_scale() == (2.0 if saved_with_one else 8.0)


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
