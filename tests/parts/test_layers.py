from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detrofit.parts.layers import ConvNorm, Depthwise, DropPath, PadToMultiple, make_divisible, seed_drop_paths


@given(st.floats(1, 5000), st.sampled_from([4, 8, 16]))
def test_a_divisible_width_is_near_and_never_much_smaller(value, divisor):
    rounded = make_divisible(value, divisor)
    assert rounded % divisor == 0 and rounded >= 0.9 * value
    assert rounded <= value + divisor


def test_a_fused_convolution_gives_the_same():
    torch.manual_seed(0)
    layer = ConvNorm(6, 8, 3, 2, groups=2, activation="silu").eval()
    nn.init.uniform_(layer.norm.running_mean, -1, 1)
    nn.init.uniform_(layer.norm.running_var, 0.5, 2)
    nn.init.uniform_(layer.norm.weight, -1, 1)
    x = torch.randn(2, 6, 9, 7)
    expected = layer(x)
    layer.fuse()
    assert isinstance(layer.norm, nn.Identity)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("activation", [None, "relu", "silu", "gelu"])
def test_the_gradient_of_a_single_picture_comes_back_from_tokens_as_it_is(activation, training):
    torch.manual_seed(0)
    layer = ConvNorm(5, 12, activation=activation).train(training)
    x, gradient = torch.randn(1, 5, 3, 4, requires_grad=True), torch.randn(1, 12, 3, 4)
    weights = layer.norm.weight
    tokens = layer(x).flatten(2).transpose(1, 2)
    of_tokens = torch.cat([gradient, gradient], dim=2).flatten(2).transpose(1, 2).contiguous() / 2
    found = torch.autograd.grad((torch.cat([tokens, tokens], dim=1) * of_tokens).sum(), [x, weights])
    expected = torch.autograd.grad(layer(x), [x, weights], gradient)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


WIDE_STRIP_IN_BF16 = """
import torch
from detrofit.parts.layers import Depthwise
layer = Depthwise({channels}, (1, 15)).to(memory_format=torch.channels_last)
image = torch.rand(1, {channels}, 80, 80).to(memory_format=torch.channels_last)
with torch.autocast("cpu", dtype=torch.bfloat16):
    layer(image.bfloat16()).sum().backward()
assert layer.weight.grad.isfinite().all()
"""


@pytest.mark.parametrize("channels", [8, 16, 24])
def test_a_wide_strip_over_few_channels_ends_in_bf16(channels):
    code = WIDE_STRIP_IN_BF16.format(channels=channels)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)  # oneDNN's own kernel would never return


def test_a_depthwise_convolution_is_torchs_own():
    torch.manual_seed(0)
    layer, x = Depthwise(4, (3, 15)), torch.randn(2, 4, 6, 7)
    expected = nn.functional.conv2d(x, layer.weight, layer.bias, padding=(1, 7), groups=4)
    torch.testing.assert_close(layer(x), expected)


def test_drop_path_is_off_in_eval_and_keeps_the_mean_in_training():
    layer = DropPath(0.25)
    x = torch.ones(4000, 1)
    assert torch.equal(layer.eval()(x), x)
    seed_drop_paths(nn.Sequential(layer), seed=0, step=0)
    dropped = layer.train()(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.05)


def test_the_number_of_processes_changes_no_samples_fate():
    def fates(rank: int, world_size: int, batch: int) -> torch.Tensor:
        model = nn.Sequential(DropPath(0.5)).train()
        seed_drop_paths(model, 3, 7, rank, world_size)
        return model(torch.ones(batch, 1))

    assert torch.equal(fates(0, 1, 8), torch.cat([fates(0, 2, 4), fates(1, 2, 4)]))


def test_drop_paths_of_other_steps_and_modules_differ():
    model = nn.Sequential(DropPath(0.5), DropPath(0.5)).train()
    seed_drop_paths(model, 0, 0)
    first, second = (layer(torch.ones(64, 1)) for layer in model)
    assert not torch.equal(first, second)
    seed_drop_paths(model, 0, 1)
    assert not torch.equal(first, model[0](torch.ones(64, 1)))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 8), (8, 5), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_part_sees_even_maps_and_gives_back_the_size_that_the_slot_needs(height, width, stride):
    seen = []

    class Body(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x[..., ::stride, ::stride]

    result = PadToMultiple(Body(), 2)(torch.ones(1, 1, height, width))
    assert seen[0].shape[-2:] == (height + height % 2, width + width % 2)
    assert seen[0][..., :height, :width].min() == 1 and seen[0].sum() == height * width, "zeros at bottom and right"
    assert result.shape[-2:] == (-(-height // stride), -(-width // stride))


def test_the_gradient_of_a_norm_before_a_concatenation_is_dense():
    module, seen = ConvNorm(2, 4).to(memory_format=torch.channels_last), []
    module.norm.register_full_backward_hook(lambda norm, inputs, outputs: seen.append(outputs[0]))
    x = torch.randn(2, 2, 3, 3).contiguous(memory_format=torch.channels_last)
    torch.cat([module(x), x], dim=1).square().sum().backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
