"""Mobile multi-query attention on maps that its strides do not divide."""

from __future__ import annotations

import pytest
import torch

from detrofit.parts.attention.mqa import MobileMQA


@pytest.mark.parametrize("size", [(2, 3), (5, 7), (8, 12), (1, 1)])
def test_any_size_is_pooled_and_raised_again(size: tuple[int, int]) -> None:
    attention = MobileMQA(8, heads=2, key_dim=4, value_dim=4, kv_stride=8, query_stride=4).eval()
    output = attention(torch.randn(1, 8, *size))
    assert output.shape == (1, 8, *size) and output.isfinite().all()
