"""The hybrid encoder's wiring: projections by stride, attention then context on the last level, fusion of all."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from detrofit.model.hybrid_encoder import HybridEncoder
from detrofit.parts.assembly import Assembly
from detrofit.parts.attention.aifi import AIFI
from detrofit.parts.fusion.ccfm import CCFM

CHANNELS = {4: 6, 8: 10, 16: 12, 32: 20}
WIDTH = 16


class Recorder(nn.Module):
    """Passes its input on with `added`, and keeps it."""

    def __init__(self, added: float = 0.0) -> None:
        super().__init__()
        self.added = added
        self.seen: list[Tensor] | Tensor | None = None

    def forward(self, x: list[Tensor] | Tensor) -> list[Tensor] | Tensor:
        self.seen = x
        return x if isinstance(x, list) else x + self.added


def maps(strides: tuple[int, ...], height: int, width: int) -> list[Tensor]:
    return [torch.randn(2, CHANNELS[stride], height // stride, width // stride) for stride in strides]


@pytest.mark.parametrize("strides", [(8, 16, 32), (4, 8, 16, 32), (16, 32), (32,)])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (32, 96), (160, 64)])
def test_shapes(strides: tuple[int, ...], height: int, width: int) -> None:
    fusion = CCFM(Assembly({}, {}).filler(), WIDTH, strides)
    attention = AIFI(WIDTH, heads=4, ffn_dim=24)
    encoder = HybridEncoder([CHANNELS[stride] for stride in strides], strides, WIDTH, attention, nn.Identity(), fusion)
    fused = encoder.eval()(maps(strides, height, width))
    assert [tuple(level.shape) for level in fused] == [
        (2, WIDTH, height // stride, width // stride) for stride in strides
    ]


def test_attention_then_context_on_the_last_level_alone() -> None:
    strides = (8, 16, 32)
    attention, context, fusion = Recorder(1.0), Recorder(10.0), Recorder()
    encoder = HybridEncoder([CHANNELS[stride] for stride in strides], strides, WIDTH, attention, context, fusion).eval()
    given = maps(strides, 64, 96)
    projected = [encoder.input_projection[f"stride{stride}"](level) for stride, level in zip(strides, given)]
    encoder(given)
    torch.testing.assert_close(attention.seen, projected[-1])
    torch.testing.assert_close(context.seen, projected[-1] + 1)
    torch.testing.assert_close(fusion.seen, [*projected[:-1], projected[-1] + 11])


def test_every_level_reaches_every_other() -> None:
    strides = (8, 16, 32)
    fusion = CCFM(Assembly({}, {}).filler(), WIDTH, strides)
    encoder = HybridEncoder(
        [CHANNELS[stride] for stride in strides], strides, WIDTH, nn.Identity(), nn.Identity(), fusion
    ).eval()
    given = [level.requires_grad_() for level in maps(strides, 64, 64)]
    for fused in encoder(given):
        gradients = torch.autograd.grad(fused.square().sum(), given, retain_graph=True)
        assert all(gradient.any() for gradient in gradients)
