"""What a file of weights holds, for people."""

from __future__ import annotations

from pathlib import Path

from detrofit.weights.backbone import is_official_backbone
from detrofit.weights.contents import read_beside, read_plain
from detrofit.weights.foreign import read_foreign
from detrofit.weights.model_file import is_model_file, read_info, read_state

_MOST_NAMES = 8


def inspect_weights(path: Path) -> dict[str, str]:
    """Whose weights, which model, classes, sizes and licence, in words.

    Of weights that are no detector's, which may be a backbone's, it tells what their names show. Raises DetrofitError
    for a file that is missing, damaged, or holds no weights.
    """
    if path.is_file() and is_model_file(path):
        info = read_info(path)
        facts = {"weights of": "Detrofit", "model": info.name, "classes": _classes(info.class_names)}
        facts["input size"] = f"{info.input_size[0]} x {info.input_size[1]}"
        tensors, licence = read_state(path), info.licence
    elif (foreign := read_foreign(path)) is None:
        tensors, licence = read_plain(path), read_beside(path).licence or "not stated in the file"
        official = "an official backbone alone: ResNet-vd or HGNetv2"
        facts = {"weights of": official if is_official_backbone(tensors) else "no detector that is known"}
        facts["begins with"] = ", ".join(list(tensors)[:3])
    else:
        named = "" if foreign.class_names is not None else " (names not in the file)"
        facts = {"weights of": foreign.source, "model": foreign.model, "classes": _classes(foreign.names) + named}
        facts["input size"] = f"{foreign.input_size[0]} x {foreign.input_size[1]}"
        facts |= {key: str(value) for key, value in foreign.settings.items()}
        tensors, licence = foreign.state, foreign.licence
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return {**facts, "tensors": f"{len(tensors)} with {numbers:,} numbers", "licence": licence}


def _classes(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return f"{len(names)}: {shown}{', ...' if len(names) > _MOST_NAMES else ''}"
