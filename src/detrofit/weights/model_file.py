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
from pydantic import BaseModel, ValidationError, model_validator
from torch import Tensor

from detrofit.config.models import checked_frame
from detrofit.errors import DetrofitError, DetrofitWarning
from detrofit.model.build import assemble
from detrofit.parts.registry import get_part, load_plugins
from detrofit.parts.retrofit import parse_retrofit
from detrofit.version import __version__
from detrofit.weights.tensor_file import read_tensors, write_tensors

if TYPE_CHECKING:
    from detrofit.model.detector import RTDETR

FORMAT = 1
SUFFIX = ".safetensors"
BEST = f"best{SUFFIX}"  # the model file that a run folder stands for
_KEY = "detrofit"
_LARGEST_SIDE = 8192  # pixels of an input; more would ask for more memory than there is


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

    @property
    def licence(self) -> str:
        """Of the weights, or of those that they started from, as far as the file states one."""
        stated = self.trained.get("licence") or self.trained.get("licence_of_start")
        return str(stated or "not stated in the file")


def is_input_size(sides: Iterable[Any]) -> bool:
    """Whether these are a height and a width that a model can have been trained for."""
    return all(isinstance(side, int) and 32 <= side <= _LARGEST_SIDE and side % 32 == 0 for side in sides)


class _Version(BaseModel):
    """What every format has, to say which version reads it."""

    format: int
    detrofit: str


class _Model(BaseModel):
    frame: dict[str, Any]
    slots: dict[str, Any]
    retrofit: list[str]
    num_classes: int


class _Origin(BaseModel):
    source: str
    version: str


class _Description(_Version):
    """The metadata as this version writes it, checked before anything in it is believed."""

    model: _Model
    parts: dict[str, _Origin]
    info: ModelInfo

    @model_validator(mode="after")
    def _check_together(self) -> _Description:
        if not self.model.num_classes == len(self.info.class_names) == len(self.info.category_ids):
            raise ValueError(f"{self.model.num_classes} classes with {len(self.info.class_names)} names")
        if not is_input_size(self.info.input_size):
            raise ValueError(f"an input size of {self.info.input_size}")
        return self


def save_model(file: Path, model: RTDETR, info: ModelInfo) -> None:
    """Write a model file, whole or not at all."""
    write_tensors(file, model.state_dict(), {_KEY: json.dumps(_metadata(model, info), sort_keys=True)})


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
    file = Path(file)
    description = _read_description(file)
    _check_parts(file, description.parts)
    try:
        _check_fit(file, description.model)
        model = _described_model(description.model)
        model.load_state_dict(safetensors.torch.load_file(file))
    except DetrofitError as error:
        raise DetrofitError(f"{file} cannot be built: {error}") from None
    except (RuntimeError, safetensors.SafetensorError) as error:
        reason = str(error).splitlines()[-1].strip()
        raise DetrofitError(f"{file}: the weights do not fit the model it describes: {reason}") from None
    return model.eval().to(device)


def read_state(file: Path) -> dict[str, Tensor]:
    """The tensors in a model file by name; DetrofitError for a file that is missing or damaged."""
    try:
        return read_tensors(file)
    except ValueError as error:
        raise DetrofitError(f"{file} is no readable model file (damaged or of another kind): {error}") from None


def read_info(file: str | Path) -> ModelInfo:
    """What a model file says beside its weights; DetrofitError for a file that is missing, damaged or none of ours."""
    return _read_description(Path(file)).info


def is_model_file(file: Path) -> bool:
    """Whether a file is a model file of ours, whatever its name."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            return _KEY in (opened.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def _described_model(model: _Model) -> RTDETR:
    slots = parse_retrofit(model.slots)
    retrofit = {address: slots[address] for address in model.retrofit if address in slots}
    return assemble(checked_frame(model.frame), slots, retrofit, num_classes=model.num_classes)[0]


def _check_fit(file: Path, described: _Model) -> None:
    """DetrofitError unless the file has the tensors that it describes: a small lie could ask for much memory."""
    with torch.device("meta"):
        wanted = {name: list(tensor.shape) for name, tensor in _described_model(described).state_dict().items()}
    with safetensors.safe_open(file, framework="pt") as opened:
        given = {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118 - no mapping
    wrong = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    if wrong:
        raise DetrofitError(f"the weights do not fit the model it describes: {len(wrong)} tensors, first '{wrong[0]}'")


def _read_description(file: Path) -> _Description:
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except FileNotFoundError:
        raise DetrofitError(f"model file {file} does not exist") from None
    except (OSError, safetensors.SafetensorError) as error:
        raise DetrofitError(f"{file} is no readable model file (damaged or of another kind): {error}") from None
    if _KEY not in metadata:
        raise DetrofitError(f"{file} is a safetensors file without Detrofit's description, so no model file of ours")
    try:
        version = _Version.model_validate_json(metadata[_KEY])
        if version.format > FORMAT:
            raise DetrofitError(f"{file} was written by Detrofit {version.detrofit}; update to read its format")
        return _Description.model_validate_json(metadata[_KEY])
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(piece) for piece in first["loc"])
        raise DetrofitError(f"the description in {file} is damaged: {key or 'all of it'}: {first['msg']}") from None


def _check_parts(file: Path, origins: Mapping[str, _Origin]) -> None:
    """The parts a file needs must be here; one that came from another version or file is warned about."""
    for name, origin in origins.items():
        try:
            here = get_part(name).origin
        except DetrofitError:
            raise DetrofitError(
                f"{file} needs the part '{name}' from {origin.source}: give it with --plugin (plugins= in Python)"
            ) from None
        of_this_package = here.source == origin.source == "detrofit"
        if not of_this_package and (here.source, here.version) != (origin.source, origin.version):
            message = f"part '{name}' differs from the one that {file} was made with ({origin.source})"
            warnings.warn(message, DetrofitWarning, stacklevel=3)
