from __future__ import annotations

import copy

import torch

from detrofit.distillation.norms import NormShift, reestimate_norms
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


SWAPPED, AFTER = "backbone.stage3.block1", "backbone.stage4.block0"


def batches() -> list[torch.Tensor]:
    return [images(7), images(8)]


def norms_of(model):
    return {name: values.clone() for name, values in model.state_dict().items() if "running" in name}


def test_norms_move_as_far_as_the_swap_moved_what_they_see():
    model = tiny_model()
    before, shift = norms_of(model), NormShift(model, batches, [SWAPPED])
    assert all(torch.equal(before[name], values) for name, values in norms_of(model).items())
    unchanged = copy.deepcopy(model)
    shift(unchanged, [])
    assert all(
        torch.allclose(before[name], values, rtol=1e-4, atol=1e-6) for name, values in norms_of(unchanged).items()
    )

    # A part that gives twice as much: what the next convolution's norm sees has twice the mean and four times the
    # variance, and so have its statistics, whatever they were.
    louder = copy.deepcopy(model)
    block = louder.get_submodule(SWAPPED)
    block.register_forward_hook(lambda module, inputs, output: 2 * output)
    shift(louder, [SWAPPED])
    after, first = norms_of(louder), f"{AFTER}.conv1.norm"
    assert torch.allclose(after[f"{first}.running_var"], 4 * before[f"{first}.running_var"], rtol=1e-2)
    expected = before[f"{first}.running_mean"] + mean_seen_by(model, first)
    assert torch.allclose(after[f"{first}.running_mean"], expected, rtol=1e-2, atol=1e-4)


def mean_seen_by(model, norm: str) -> torch.Tensor:
    again = copy.deepcopy(model)
    reestimate_norms(again, batches(), [SWAPPED])
    return again.get_submodule(norm).running_mean


def test_norms_of_a_swapped_part_are_those_that_are_measured():
    model = tiny_model()
    shift, swapped = NormShift(model, batches, [SWAPPED]), copy.deepcopy(model)
    expected = copy.deepcopy(model)
    reestimate_norms(expected, batches(), [SWAPPED])
    shift(swapped, [SWAPPED])
    inside = f"{SWAPPED}.conv1.norm.running_var"
    assert torch.equal(swapped.state_dict()[inside], expected.state_dict()[inside])
    assert not torch.equal(swapped.state_dict()[inside], model.state_dict()[inside])
