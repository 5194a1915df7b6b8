"""Running a model file: `Detector`, its sources and its results. Only .safetensors needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detrofit.runtime.detector import Detector

__all__ = ["Detector"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'detrofit.runtime' has no attribute '{name}'")
    from detrofit.runtime.detector import Detector

    return Detector
