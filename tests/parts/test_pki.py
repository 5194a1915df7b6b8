"""PKINet's block where its width changes inside, its own sums, and its kernels."""

from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError
from detrofit.parts.assembly import Assembly
from detrofit.parts.blocks.pki import PKIBlock
from detrofit.parts.registry import get_part, validated
from detrofit.parts.slots import BACKBONE


def test_the_inner_width_is_between_inception_and_feed_forward() -> None:
    block = PKIBlock(16, 24, expand=2.1)
    assert block.norm2.num_features == block.scale1.scale.numel() == 48  # int(50.4), of which the nearest multiple
    assert block.ffn.widen.in_channels == 48 and block.ffn.narrow.out_channels == 24
    assert not block.residual
    assert block(torch.randn(2, 16, 9, 7)).shape == (2, 24, 9, 7)


def test_the_inception_keeps_its_own_sum_where_the_host_has_the_skip() -> None:
    block = PKIBlock(16, 16, residual=False)
    assert block.inception.residual and not block.residual


def test_only_the_blocks_of_the_net_drop_values() -> None:
    with torch.device("meta"):
        net = Assembly({}, {}).filler().fill(BACKBONE, default="pkinet", strides=(8, 16, 32))
    assert net.stage2.block0.ffn.drop.p == 0.1 and net.stage2.ffn.drop.p == 0


def test_a_kernel_stands_once() -> None:
    with pytest.raises(DetrofitError, match=r"option 'kernels' = .*each kernel size may stand once"):
        validated(get_part("pki").options, {"kernels": [3, 5, 5]}, "here")
