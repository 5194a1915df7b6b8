from __future__ import annotations

import copy

import torch

from detrofit.distillation.norms import reestimate_norms
from tests.distillation.tiny_models import images, tiny_model


def test_norms_from_the_swap_on_take_the_statistics_of_the_batches():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    kept = model.backbone.stage4.block1.conv2.norm
    count = reestimate_norms(model, [images(7), images(8)], ["backbone.stage3.block1"], keep=[kept])
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert count > 10 and changed
    assert all("running" in name or "num_batches" in name for name in changed)
    assert not any(name.startswith(("backbone.stem", "backbone.stage1", "backbone.stage3.block0")) for name in changed)
    assert not any(name.startswith("backbone.stage4.block1.conv2") for name in changed)
    assert not any(module.training for module in model.modules())

    # The norm's mean is that of what it sees: the average over both batches.
    seen = []
    norm = model.backbone.stage3.block1.conv1.norm
    norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].mean((0, 2, 3))))
    with torch.no_grad():
        model(images(7)), model(images(8))
    assert torch.allclose(norm.running_mean, torch.stack(seen).mean(0), atol=1e-5)
    assert norm.momentum == 0.1


def test_nothing_to_do_changes_nothing():
    model = tiny_model()
    before = copy.deepcopy(model.state_dict())
    assert reestimate_norms(model, [], ["backbone"]) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
