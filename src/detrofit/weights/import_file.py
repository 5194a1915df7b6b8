"""Making a model file of ours from whatever weights there are."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detrofit.config.models import build
from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.weights.contents import is_weights_folder
from detrofit.weights.fetch import fetch, is_remote
from detrofit.weights.foreign import read_foreign
from detrofit.weights.model_file import SUFFIX, ModelInfo, is_model_file, read_info, save_model


def import_weights(source: str, target: Path, settings: Mapping[str, Any] | None = None) -> ModelInfo:
    """Write the model file `target` from a file, folder, URL or name on the hub; what it says.

    A model file of ours is copied as it is.

    Args:
        settings: numbers of the frame that a checkpoint does not tell, e.g. `{"sampling": "discrete"}`.

    Raises DetrofitError for weights of no known program, or of a model that is not in the zoo.
    """
    if target.suffix.lower() != SUFFIX:
        raise DetrofitError(f"a model file ends in {SUFFIX}, not as in '{target}'")
    file = fetch(source)
    if file.is_file() and target.exists() and target.samefile(file):
        raise DetrofitError(f"{target} is what shall be imported; write the model file elsewhere")
    if file.is_file() and is_model_file(file):
        return _copy(file, target, settings)
    foreign = read_foreign(file)
    if foreign is None:
        raise DetrofitError(
            f"{source} holds no detector of a known program; known are official RT-DETR and RT-DETRv2, Hugging Face, "
            "LibreYOLO, and Ultralytics RT-DETR (weights of a backbone alone go into a training: train --weights)"
        )
    model = build(foreign.model, num_classes=foreign.num_classes, settings={**foreign.settings, **(settings or {})})
    model.load_state_dict(foreign.state)
    facts = {"imported_from": f"{foreign.source} {source if is_remote(source) else file.name}"}
    facts |= {"licence": foreign.licence}
    ids = tuple(range(foreign.num_classes))
    info = ModelInfo(foreign.model, foreign.names, ids, foreign.input_size, trained=facts)
    save_model(target, model, info)
    return info


def _copy(file: Path, target: Path, settings: Mapping[str, Any] | None) -> ModelInfo:
    info = read_info(file)
    if settings:
        raise DetrofitError(
            f"{file} is a model file, which says all of its model; --set {next(iter(settings))} is for others"
        )
    write_file(target, file.read_bytes())
    return info


@contextmanager
def as_model_file(named: str) -> Iterator[Path]:
    """A model file of ours for whatever `named` names: itself, or for as long as the context lasts one made of it.

    A run folder stands for its best one. A path that does not exist, and other folders, are left to who reads them.
    """
    path = fetch(named) if is_remote(named) or Path(named).exists() else Path(named)
    ours = is_model_file(path) if path.is_file() else not is_weights_folder(path)
    if ours:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="detrofit-") as folder:
        target = Path(folder, f"{_name_of(named)}{SUFFIX}")
        import_weights(str(path), target)
        yield target


def _name_of(named: str) -> str:
    """The last piece of a path, URL or name on the hub, as the name of a file."""
    last = re.split(r"[/\\]", named.partition("#")[0].rstrip("/\\"))[-1]
    return re.sub(r"\.(pth|pt|bin|ckpt|safetensors)$", "", last) or "model"
