"""Which number format a device trains in."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from detrofit.errors import DetrofitError

Precision = Literal["fp32", "bf16", "fp16"]


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """bf16 where the device computes in it natively, else fp16 on CUDA, else fp32; or what is wanted, if it can be.

    Emulated bf16 is slower than fp32 and does not count.
    """
    native = native_bf16(device)
    if wanted == "auto":
        return "bf16" if native else "fp16" if device.type == "cuda" else "fp32"
    if wanted == "fp16" and device.type != "cuda":
        raise DetrofitError(f"train.precision fp16 needs CUDA, and this trains on {device.type}; use bf16 or fp32")
    return wanted  # type: ignore[return-value]


def native_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16: CUDA capability 8 or more, a CPU with AVX-512 BF16 or AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type == "cpu":
        flags = _cpu_flags()
        return "avx512_bf16" in flags or "amx_bf16" in flags
    return False


def _cpu_flags() -> set[str]:
    """Instruction sets as Linux lists them; empty elsewhere, where bf16 is then asked for by name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return next((set(line.split()) for line in lines if line.startswith("flags")), set())
