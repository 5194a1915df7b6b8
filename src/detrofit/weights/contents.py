"""What lies in a file or folder of weights, whoever wrote it: known by how the content begins, never by a name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.weights.archive import read_archive
from detrofit.weights.tensor_file import read_tensors

WEIGHTS_FILES = ("model.safetensors", "pytorch_model.bin")  # of a Hugging Face folder; the first is preferred
CONFIG, PREPROCESSOR, CARD = "config.json", "preprocessor_config.json", "README.md"
BESIDE = (CONFIG, PREPROCESSOR, CARD)  # what of such a folder belongs to the weights
_LARGEST_CARD = 2**20
# The licence in the block of metadata that a model card begins with.
_LICENCE = re.compile(r"---\n(?:(?!---\n).*\n)*?license: *[\"']?([\w.-]{1,60})[\"']? *\n")
# Where a checkpoint keeps its tensors: the average where there is one, then the model, then what lies open.
_PLACES = (("ema", "module"), ("ema",), ("model",), ("state_dict",), ())
_WRAPPED = "module."  # before each name where a model was trained on several devices
_COMPILED = "_orig_mod."  # inside the names of a model that was compiled
_LONGEST_NAME = 500


def read_content(path: Path) -> Any:
    """What a file, or the weights' file of a Hugging Face folder, holds; nothing of it is executed.

    Raises DetrofitError for one that is missing, damaged or no file of weights.
    """
    file = _weights_file(path)
    if not file.is_file():
        raise DetrofitError(f"weights {file} do not exist")
    try:
        with file.open("rb") as opened:
            if opened.read(9)[8:] != b"{":
                return read_archive(file)
        return read_tensors(file)
    except (OSError, ValueError) as error:
        raise DetrofitError(f"{file} is no readable checkpoint (damaged or truncated): {error}") from None


def read_plain(path: Path) -> dict[str, Tensor]:
    """The tensors of any checkpoint by name; DetrofitError for a file that is missing, damaged or holds none."""
    state = plain_tensors(read_content(path))
    if state is None:
        raise DetrofitError(f"{path} holds no tensors by name")
    return state


def plain_tensors(content: Any) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint by name, without what several devices and compilation add to names; None without."""
    for keys in _PLACES:
        inner = content
        for key in keys:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
            if tensors and all(_is_name(name) for name in tensors):
                return {name.replace(_COMPILED, "").removeprefix(_WRAPPED): tensors[name] for name in tensors}
    return None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME and value.isprintable()


@dataclass(frozen=True)
class Beside:
    """What lies beside weights in a Hugging Face folder; empty where it is missing.

    Attributes:
        config, preprocessor: of transformers' RT-DETR, and of what brings pictures to it.
        licence: in words, as the model card states it.
    """

    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None


def read_beside(path: Path) -> Beside:
    """What lies in a folder of weights, or beside a file; DetrofitError for a configuration that is damaged."""
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / CONFIG)
    if not str(config.get("model_type", "")).startswith("rt_detr"):
        return Beside(licence=_stated_licence(folder / CARD) if config else None)
    return Beside(config, _read_json(folder / PREPROCESSOR), _stated_licence(folder / CARD))


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DetrofitError(f"{file} is no readable configuration: {error}") from None
    return content if isinstance(content, dict) else {}


def _stated_licence(card: Path) -> str | None:
    if not card.is_file():
        return None
    try:
        with card.open(encoding="utf-8", errors="replace") as opened:
            found = _LICENCE.match(opened.read(_LARGEST_CARD))
    except OSError:
        return None
    return f"{found[1]}, as its model card states" if found else None


def is_weights_folder(path: Path) -> bool:
    """Whether a path is a folder of the form that Hugging Face has."""
    return any((path / name).is_file() for name in WEIGHTS_FILES)


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in WEIGHTS_FILES:
        if (path / name).is_file():
            return path / name
    raise DetrofitError(f"folder {path} has no {' or '.join(WEIGHTS_FILES)}")
