"""The machine that a time was measured on, as far as it matters and can be told."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from detrofit.version import __version__

_TIMED_PACKAGES = ("onnxruntime", "openvino", "torch", "numpy", "pillow")
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "i8mm", "bf16")


def describe_machine() -> dict[str, Any]:
    """The processor, the cores that this process may use, how busy they were, and the versions that matter."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    processor, flags = _processor()
    return {
        "processor": processor,
        "instructions": [name for name in _INSTRUCTION_SETS if name in flags],
        "cores": usable,
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "detrofit": __version__,
        **{name: version for name in _TIMED_PACKAGES if (version := _version(name))},
    }


def is_busy(machine: dict[str, Any]) -> bool:
    """Whether others wanted the cores too when the machine was described, so that times are too long."""
    return machine["load"] is not None and machine["load"] > 1.25 * machine["cores"]


def peak_memory() -> int | None:
    """The most memory that this process has had, in bytes; None where the system does not tell.

    On Linux VmHWM, which begins anew with a program (`ru_maxrss` is inherited from the process that started it).
    """
    try:
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ModuleNotFoundError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> tuple[str, set[str]]:
    """Its name and its instruction sets, as far as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not on Linux
        return platform.processor(), set()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in reversed(lines))}
    return facts.get("model name", platform.machine()), set((facts.get("flags") or facts.get("Features", "")).split())
