"""Detrofit: retrofit RT-DETR with better parts, learn whether it helped, and ship the winner.

The public names are imported on first use, so that `import detrofit` stays quick and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from detrofit.errors import DetrofitError
from detrofit.extras import explain_missing_module
from detrofit.version import __version__

if TYPE_CHECKING:
    from detrofit.config.models import build
    from detrofit.grafting.graft import graft
    from detrofit.grafting.search import search
    from detrofit.parts.registry import part
    from detrofit.runtime.detector import Detector
    from detrofit.weights.model_file import load_model as load

__all__ = ["Detector", "DetrofitError", "__version__", "build", "graft", "load", "part", "search"]

_LAZY_NAMES = {
    "build": "detrofit.config.models:build",
    "graft": "detrofit.grafting.graft:graft",
    "load": "detrofit.weights.model_file:load_model",
    "part": "detrofit.parts.registry:part",
    "search": "detrofit.grafting.search:search",
    "Detector": "detrofit.runtime.detector:Detector",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY_NAMES:
        raise AttributeError(f"module 'detrofit' has no attribute '{name}'")
    module, attribute = _LAZY_NAMES[name].split(":")
    try:
        value = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise (explain_missing_module(error) or error) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
