"""What a file of weights holds, for people."""

from __future__ import annotations

from pathlib import Path

from detrofit.errors import DetrofitError
from detrofit.weights.checkpoint import read_tensors
from detrofit.weights.foreign import read_foreign
from detrofit.weights.model_file import is_model_file, read_info

_MOST_NAMES = 8


def inspect_weights(path: Path) -> dict[str, str]:
    """Whose weights, which model, classes, sizes and licence, in words.

    Raises DetrofitError for a file that is missing, damaged, or of no known program.
    """
    if path.is_file() and is_model_file(path):
        info = read_info(path)
        facts = {"weights of": "Detrofit", "model": info.name, "classes": _classes(info.class_names)}
        facts["input size"] = f"{info.input_size[0]} x {info.input_size[1]}"
        tensors, licence = read_tensors(path), str(info.trained.get("licence", "not stated in the file"))
    else:
        foreign = read_foreign(path)
        if foreign is None:
            raise DetrofitError(f"{path} holds no detector of a known program; it may be a backbone's weights")
        named = "" if foreign.class_names is not None else " (names not in the file)"
        facts = {"weights of": foreign.source, "model": foreign.model, "classes": _classes(foreign.names) + named}
        facts |= {key: str(value) for key, value in foreign.settings.items()}
        tensors, licence = foreign.state, foreign.licence
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return {**facts, "tensors": f"{len(tensors)} with {numbers:,} numbers", "licence": licence}


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{len(names)}: {shown}{', ...' if len(names) > _MOST_NAMES else ''}"
