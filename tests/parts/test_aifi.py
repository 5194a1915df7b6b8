"""AIFI: its position embedding outlives no export, and its width fits its heads."""

from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError, build
from detrofit.parts.attention.aifi import AIFI


def test_an_export_leaves_no_symbols_behind() -> None:
    attention, image = AIFI(16, heads=4, ffn_dim=8).eval(), torch.randn(1, 16, 3, 11)
    exported = torch.export.export(attention, (image,)).module()
    with torch.no_grad():
        output = attention(image)
        assert type(output) is torch.Tensor
        torch.testing.assert_close(exported(image), output)


def test_embeddings_made_in_inference_mode_serve_training() -> None:
    attention, image = AIFI(16, heads=4, ffn_dim=8), torch.randn(2, 16, 5, 11)
    with torch.inference_mode():
        attention(image)
    attention(image).sum().backward()
    assert attention.layer0.linear1.weight.grad is not None


def test_heads_that_do_not_divide_the_width_are_named() -> None:
    with pytest.raises(
        DetrofitError, match=r"'aifi' in slot encoder\.attention needs in_channels to be a multiple of 28"
    ):
        build("rtdetr-n", {"encoder.attention": {"part": "aifi", "heads": 7}}, num_classes=2)
