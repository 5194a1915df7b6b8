"""What a run cost: size, operations, time and memory of its training (docs/statistics.md states the rules)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detrofit.config.schema import Experiment
from detrofit.deployment import machine


def model_costs(file: Path, experiment: Experiment) -> dict[str, Any]:
    """Parameters and operations (10^9, one picture of the study's size) of a model file in its fused form, and the
    file's bytes."""
    from detrofit.model.costs import count_flops, count_parameters
    from detrofit.model.fuse import fuse
    from detrofit.weights.model_file import load_model

    fused = fuse(load_model(file, plugins=experiment.plugins).eval())
    return {
        "parameters": count_parameters(fused),
        "gflops": count_flops(fused, experiment.imgsz) / 1e9,
        "file_bytes": file.stat().st_size,
    }


def peak_memory(device: str) -> dict[str, int]:
    """The most memory that this process has held so far, in bytes, and on a CUDA device that torch used there.

    Of processes that load pictures it holds nothing. Empty where the system does not tell.
    """
    import torch

    found = {"peak_memory_bytes": machine.peak_memory() or 0}
    if device != "cpu" and torch.cuda.is_available():
        found["peak_cuda_bytes"] = torch.cuda.max_memory_allocated(device if device.startswith("cuda") else None)
    return {key: value for key, value in found.items() if value}
