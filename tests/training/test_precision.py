from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError
from detrofit.training import precision
from detrofit.training.precision import choose_precision


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("fpu avx2", "fp32"), ("fpu avx512f avx512_bf16", "bf16"), ("amx_bf16", "bf16"), ("", "fp32")],
)
def test_a_cpu_trains_in_bf16_only_where_it_has_it(monkeypatch, flags, expected):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: set(flags.split()))
    assert choose_precision("auto", torch.device("cpu")) == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp16"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_a_gpu_trains_in_bf16_from_capability_8_on(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) == expected


def test_what_is_asked_for_is_taken_or_refused():
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"
    with pytest.raises(DetrofitError, match="fp16 needs CUDA"):
        choose_precision("fp16", torch.device("cpu"))
