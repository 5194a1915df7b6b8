"""The model file: one safetensors file with the weights and, in its metadata, all that rebuilds and runs the model."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch

from detrofit.config.models import checked_frame
from detrofit.errors import DetrofitError
from detrofit.files import atomic_write
from detrofit.model.build import build_model
from detrofit.parts.registry import get_part, load_plugins
from detrofit.parts.retrofit import parse_retrofit
from detrofit.version import __version__

if TYPE_CHECKING:
    from detrofit.model.detector import RTDETR

FORMAT = 1
_KEY = "detrofit"


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says beside its weights.

    Attributes:
        name: of the stock model.
        class_names, category_ids: by contiguous class id; the ids are those of the data set.
        input_size: height and width in pixels that the model was trained for.
        threshold: score above which a detection counts, chosen on the validation split.
        trained: free facts about the training (data, epochs, seed, metrics), for people.
    """

    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    input_size: tuple[int, int]
    threshold: float = 0.5
    trained: Mapping[str, Any] = field(default_factory=dict)


def save_model(file: Path, model: RTDETR, info: ModelInfo, state: Mapping[str, torch.Tensor] | None = None) -> None:
    """Write a model file, whole or not at all; `state` takes the place of the model's own weights (EMA)."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in (state or model.state_dict()).items()}
    metadata = {_KEY: json.dumps(_metadata(model, info), sort_keys=True)}
    with atomic_write(file) as temporary:
        safetensors.torch.save_file(tensors, temporary, metadata)


def _metadata(model: RTDETR, info: ModelInfo) -> dict[str, Any]:
    names = {choice["part"] for choice in model.slots.values()}
    return {
        "format": FORMAT,
        "detrofit": __version__,
        "model": {
            "frame": model.frame.model_dump(mode="json"),
            "slots": model.slots,
            "retrofit": model.retrofit,
            "num_classes": model.num_classes,
        },
        "parts": {name: get_part(name).origin.to_dict() for name in sorted(names)},
        "normalisation": {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()},
        "info": asdict(info),
    }


def load_model(file: str | Path, *, plugins: Iterable[str | Path] = (), device: str = "cpu") -> RTDETR:
    """The model in a model file, in eval mode. Its `info` is at `read_info(file)`.

    Raises DetrofitError for a file that is missing, damaged or none of ours, or whose parts are missing.
    """
    load_plugins(plugins)
    content = _read_metadata(Path(file))
    _check_parts(Path(file), content["parts"])
    description = content["model"]
    slots = parse_retrofit(description["slots"])
    model = build_model(
        checked_frame(description["frame"]),
        slots,
        {address: slots[address] for address in description["retrofit"]},
        num_classes=description["num_classes"],
    )
    try:
        model.load_state_dict(safetensors.torch.load_file(file))
    except (RuntimeError, safetensors.SafetensorError) as error:
        raise DetrofitError(
            f"{file}: the weights do not fit the model it describes: {str(error).splitlines()[0]}"
        ) from None
    return model.eval().to(device)


def read_info(file: str | Path) -> ModelInfo:
    """What a model file says beside its weights; DetrofitError for a file that is missing, damaged or none of ours."""
    info = _read_metadata(Path(file))["info"]
    tuples = {key: tuple(info[key]) for key in ("class_names", "category_ids", "input_size")}
    return ModelInfo(**{**info, **tuples})


def is_model_file(file: Path) -> bool:
    """Whether a file is a model file of ours, whatever its name."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            return _KEY in (opened.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def _read_metadata(file: Path) -> dict[str, Any]:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except FileNotFoundError:
        raise DetrofitError(f"model file {file} does not exist") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise DetrofitError(f"{file} is no readable model file (damaged or of another kind): {error}") from None
    if _KEY not in metadata:
        raise DetrofitError(
            f"{file} is a safetensors file without Detrofit's description; import it as foreign weights"
        )
    content = json.loads(metadata[_KEY])
    if content["format"] > FORMAT:
        raise DetrofitError(f"{file} was written by Detrofit {content['detrofit']}; update to read its format")
    return content


def _check_parts(file: Path, origins: Mapping[str, Mapping[str, str]]) -> None:
    """The parts a file needs must be here; one that came from another version or file is warned about."""
    for name, origin in origins.items():
        try:
            here = get_part(name).origin.to_dict()
        except DetrofitError:
            raise DetrofitError(
                f"{file} needs the part '{name}' from {origin['source']}: give it with --plugin (plugins= in Python)"
            ) from None
        if here["source"] != "detrofit" and here != origin:
            warnings.warn(
                f"part '{name}' differs from the one that {file} was trained with ({origin['source']})", stacklevel=3
            )
