"""Weights of other programs, known by what a file holds: whose they are, and the same under our names.

Known are official RT-DETR and RT-DETRv2 checkpoints, those of Hugging Face transformers (a folder or a file), of
LibreYOLO, which keeps the official names and adds what it knows about the model, and Ultralytics' RT-DETR with an
HGNetv2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from detrofit.config.models import frame_and_choices, model_names
from detrofit.errors import DetrofitError
from detrofit.model.build import assemble
from detrofit.weights.archive import is_archive, module_tensors, modules_of, read_archive
from detrofit.weights.checkpoint import read_checkpoint
from detrofit.weights.coco_names import COCO_NAMES
from detrofit.weights.huggingface import from_huggingface
from detrofit.weights.inert_pickle import Inert
from detrofit.weights.official import from_official
from detrofit.weights.ultralytics import EPS, from_ultralytics, is_ultralytics

_HEAD = "decoder.score_head.layer0.weight"
_LEARNT = "decoder.query_selection.learnt_content.weight"
_OFFSETS = "decoder.layer0.cross_attention.sampling_offsets.bias"
_HEADS = 8
_OFFICIAL = re.compile(r"(encoder\.(input_proj|lateral_convs)|decoder\.(dec_score_head|enc_output))\.")
_TORCH_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class Foreign:
    """Weights of another program, as a model of ours.

    Attributes:
        source: whose they are, in words.
        state: tensors by our names.
        model: the zoo's name.
        settings: numbers of the frame that differ from the zoo model's.
        class_names: by class id; None where nothing tells them.
        licence: what is known about the licence.
    """

    source: str
    state: dict[str, Tensor]
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    licence: str = "unknown: ask whoever gave you the file"

    @property
    def num_classes(self) -> int:
        return len(self.state[_HEAD])

    @property
    def names(self) -> tuple[str, ...]:
        """Class names; those of COCO for 80 classes without names, numbers otherwise."""
        if self.class_names is not None:
            return self.class_names
        return COCO_NAMES if self.num_classes == len(COCO_NAMES) else unnamed_classes(self.num_classes)


def unnamed_classes(count: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(f"class {index}" for index in range(count))


def read_foreign(path: Path) -> Foreign | None:
    """The weights in a file or Hugging Face folder of another program; None where the content is of no known one.

    Nothing of the file is executed. Raises DetrofitError for one that is missing, damaged or of a variant that no
    model here has.
    """
    config = _config(path)
    content = _content(_weights_file(path))
    try:
        for recognise in (_from_ultralytics, _from_huggingface, _from_official):
            found = recognise(content, config)
            if found is not None:
                return found
    except DetrofitError as error:
        raise DetrofitError(f"{path}: {error}") from None
    return None


def read_plain(file: Path) -> dict[str, Tensor]:
    """The tensors of any checkpoint by name; DetrofitError for a file that is missing, damaged or holds none."""
    state = _plain(_content(_weights_file(file)))
    if state is None:
        raise DetrofitError(f"{file} holds no tensors by name")
    return state


def _weights_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in _TORCH_FILES:
        if (path / name).is_file():
            return path / name
    raise DetrofitError(f"folder {path} has no {' or '.join(_TORCH_FILES)}")


def _config(path: Path) -> Mapping[str, Any]:
    """A Hugging Face configuration in a folder, or beside a file; empty without one."""
    file = (path if path.is_dir() else path.parent) / "config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text("utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise DetrofitError(f"{file} is no readable configuration: {error}") from None
    known = isinstance(config, dict) and str(config.get("model_type", "")).startswith("rt_detr")
    return config if known else {}


def _content(file: Path) -> Any:
    if not file.is_file():
        raise DetrofitError(f"weights {file} do not exist")
    if is_archive(file):
        return read_archive(file)
    with file.open("rb") as opened:
        is_safetensors = opened.read(9)[8:] == b"{"
    if not is_safetensors:
        return read_checkpoint(file)  # what torch wrote before it used zips
    try:
        return safetensors.torch.load_file(file)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise DetrofitError(f"{file} is no readable checkpoint (damaged or truncated): {error}") from None


def _plain(content: Any) -> dict[str, Tensor] | None:
    """The tensors of a checkpoint by name: the average where there is one, then the model, then what lies open."""
    for keys in (("ema", "module"), ("ema",), ("model",), ("state_dict",), ()):
        inner = content
        for key in keys:
            inner = inner.get(key) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
            if tensors and all(isinstance(name, str) for name in tensors):
                return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return None


def _from_ultralytics(content: Any, config: Mapping[str, Any]) -> Foreign | None:
    holder = content if isinstance(content, dict) else {}
    module = next((holder[key] for key in ("ema", "model") if isinstance(holder.get(key), Inert)), None)
    state = module_tensors(module) if module is not None else _plain(content)
    if state is None or not is_ultralytics(state):
        if module is not None:
            raise DetrofitError(f"holds a {module.kind}; of such models only RT-DETR with HGNetv2 is known here")
        return None
    renamed = from_ultralytics(state, EPS if module is None else _eps(module))
    return _as_zoo_model(
        "Ultralytics RT-DETR",
        renamed,
        ["rtdetr-l", "rtdetr-x"],
        class_names=_names(module.state.get("names")) if module is not None else None,
        licence="AGPL-3.0, or Ultralytics' enterprise licence, as Ultralytics states for its weights",
    )


def _eps(module: Inert) -> float:
    """What the batch norms of a pickled model add to the variance; DetrofitError where it is not the same in all."""
    norms = (inner.state for inner in modules_of(module).values() if str(inner.kind).endswith(".BatchNorm2d"))
    found = {float(state["eps"]) for state in norms if isinstance(state.get("eps"), float)}
    if len(found) > 1:
        raise DetrofitError(f"its batch norms have different eps: {sorted(found)}")
    return found.pop() if found else EPS


def _from_huggingface(content: Any, config: Mapping[str, Any]) -> Foreign | None:
    state = _plain(content)
    if state is None or not any(name.startswith("model.backbone.model.") for name in state):
        return None
    version = 2 if config.get("model_type") == "rt_detr_v2" or any("n_points_scale" in name for name in state) else 1
    chosen = {"num_queries": config.get("num_queries")}
    if config.get("decoder_method") == "discrete":
        chosen["sampling"] = "discrete"
    return _as_zoo_model(
        f"Hugging Face RT-DETR{'v2' if version == 2 else ''}",
        from_huggingface(state),
        _of_version(version),
        settings={key: value for key, value in chosen.items() if value is not None},
        class_names=_names(config.get("id2label")),
        licence="Apache-2.0 for the published models; see the model card of the one that you have",
    )


def _from_official(content: Any, config: Mapping[str, Any]) -> Foreign | None:
    state = _plain(content)
    if state is None or not any(_OFFICIAL.match(name) for name in state):
        return None
    if isinstance(content, dict) and "libreyolo_version" in content:
        return _from_libreyolo(content, state)
    version = 2 if any("num_points_scale" in name or "enc_output.proj." in name for name in state) else 1
    return _as_zoo_model(
        f"official RT-DETR{'v2' if version == 2 else ''}",
        from_official(state),
        _of_version(version),
        licence="Apache-2.0, as the official repository states",
    )


def _from_libreyolo(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> Foreign:
    """Checkpoints of its schema 1.0: weights under `model`, family and class names beside them."""
    family = content.get("model_family")
    if family not in ("rtdetr", "rtdetrv2") or content.get("task", "detect") != "detect":
        raise DetrofitError(f"holds LibreYOLO's '{family}' for '{content.get('task')}'; known are rtdetr and rtdetrv2")
    return _as_zoo_model(
        "LibreYOLO RT-DETR" + ("v2" if family == "rtdetrv2" else ""),
        from_official(state),
        _of_version(2 if family == "rtdetrv2" else 1),
        class_names=_names(content.get("names")),
        licence="Apache-2.0 for the published models, as LibreYOLO states; ask whoever trained others",
    )


def _of_version(version: int) -> list[str]:
    beginning = "rtdetrv2-" if version == 2 else "rtdetr-"
    return [name for name in model_names() if name.startswith(beginning)]


def _names(value: Any) -> tuple[str, ...] | None:
    """Class names from a list or a mapping of ids; None for anything else, also for names that a library made up."""
    if isinstance(value, dict):
        by_id = {int(key): name for key, name in value.items() if str(key).isdigit()}
        value = [by_id[key] for key in sorted(by_id)] if sorted(by_id) == list(range(len(value))) else None
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        return None
    return None if all(re.fullmatch(r"LABEL_\d+|class_\d+", name) for name in value) else tuple(value)


def _as_zoo_model(
    source: str,
    state: dict[str, Tensor],
    candidates: Iterable[str],
    *,
    settings: Mapping[str, Any] | None = None,
    class_names: tuple[str, ...] | None = None,
    licence: str,
) -> Foreign:
    """The weights with the model of the zoo whose tensors have the same names and shapes."""
    if _HEAD not in state or _OFFSETS not in state or state[_HEAD].ndim != 2:
        raise DetrofitError(f"looks like {source}, but without its decoder; is the checkpoint complete?")
    chosen = {**(settings or {}), **_points(state), **_learnt_queries(state)}
    classes = len(state[_HEAD])
    if class_names is not None and len(class_names) != classes:
        class_names = None
    shapes = {name: tensor.shape for name, tensor in state.items()}
    differences = {}
    for name in candidates:
        own = _shapes(name, classes, chosen)
        differences[name] = [key for key in sorted(own.keys() | shapes.keys()) if own.get(key) != shapes.get(key)]
        if not differences[name]:
            weights = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
            return Foreign(source, weights, name, chosen, class_names, licence)
    nearest = min(differences, key=lambda name: len(differences[name]))
    wrong = differences[nearest]
    raise DetrofitError(
        f"looks like {source}, but is no model of the zoo: {len(wrong)} tensors differ from {nearest}, "
        f"first '{wrong[0]}'"
    )


def _points(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Sampling points of a level where they are not the usual four; all levels have as many."""
    levels = sum(name.startswith("decoder.input_projection.") and name.endswith("conv.weight") for name in state)
    points = state[_OFFSETS].numel() // (2 * _HEADS * max(levels, 1))
    return {} if points == 4 else {"points": [points]}


def _learnt_queries(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whether queries start from learnt vectors, of which there is one each."""
    return {"learnt_queries": True, "num_queries": len(state[_LEARNT])} if _LEARNT in state else {}


def _shapes(name: str, classes: int, settings: Mapping[str, Any]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model, _ = assemble(*frame_and_choices(name, None, settings), num_classes=classes)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
