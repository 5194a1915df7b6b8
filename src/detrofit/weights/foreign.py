"""Weights of other programs, known by what a file holds: whose they are, and the same under our names.

Known are official RT-DETR and RT-DETRv2 checkpoints, those of Hugging Face transformers (a folder or a file), of
LibreYOLO, which keeps the official names and adds what it knows about the model, and Ultralytics' RT-DETR with an
HGNetv2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detrofit.config.models import frame_and_choices, model_names
from detrofit.errors import DetrofitError
from detrofit.model.build import assemble
from detrofit.weights.coco_names import COCO_NAMES
from detrofit.weights.contents import Beside, plain_tensors, read_beside, read_content
from detrofit.weights.frame_numbers import HEAD, OFFSETS, frame_numbers, unequal_points
from detrofit.weights.huggingface import from_huggingface
from detrofit.weights.inert_pickle import Inert
from detrofit.weights.model_file import is_input_size
from detrofit.weights.official import from_official
from detrofit.weights.pickled_module import module_tensors, modules_of
from detrofit.weights.ultralytics import EPS, from_ultralytics, is_ultralytics

_INPUT_SIZE = (640, 640)  # what every published RT-DETR was trained at
_OFFICIAL = re.compile(r"(encoder\.(input_proj|lateral_convs)|decoder\.(dec_score_head|enc_output))\.")
# What transformers lets one choose, and every model of the zoo has like this: other values give other outputs.
_FIXED: Mapping[str, Any] = {
    "activation_function": "silu",
    "batch_norm_eps": 1e-5,
    "decoder_activation_function": "relu",
    "decoder_attention_heads": 8,
    "decoder_offset_scale": 0.5,
    "encode_proj_layers": [2],
    "encoder_activation_function": "gelu",
    "encoder_attention_heads": 8,
    "eval_size": None,
    "feat_strides": [8, 16, 32],
    "layer_norm_eps": 1e-5,
    "learn_initial_query": False,
    "normalize_before": False,
    "positional_encoding_temperature": 10000,
    "with_box_refine": True,
}
_FIXED_BACKBONE = {"downsample_in_bottleneck": False, "downsample_in_first_stage": False, "hidden_act": "relu"}
_FIXED_PREPROCESSOR = {"do_normalize": False, "do_rescale": True}


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
        input_size: height and width in pixels that it was trained for; the published models' where nothing tells.
    """

    source: str
    state: dict[str, Tensor]
    model: str
    settings: dict[str, Any] = field(default_factory=dict)
    class_names: tuple[str, ...] | None = None
    licence: str = "unknown: ask whoever gave you the file"
    input_size: tuple[int, int] = _INPUT_SIZE

    @property
    def num_classes(self) -> int:
        return len(self.state[HEAD])

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
    beside, content = read_beside(path), read_content(path)
    try:
        for recognise in (_from_ultralytics, _from_huggingface, _from_official):
            found = recognise(content, beside)
            if found is not None:
                return found
    except DetrofitError as error:
        raise DetrofitError(f"{path}: {error}") from None
    except (
        RuntimeError,
        IndexError,
        TypeError,
    ) as error:  # tensors are joined before shapes are known
        raise DetrofitError(f"{path}: its tensors do not fit each other: {str(error).splitlines()[0]}") from None
    return None


def _from_ultralytics(content: Any, beside: Beside) -> Foreign | None:
    holder = content if isinstance(content, dict) else {}
    module = next((holder[key] for key in ("ema", "model") if isinstance(holder.get(key), Inert)), None)
    state = module_tensors(module) if module is not None else plain_tensors(content)
    if state is None or not is_ultralytics(state):
        if module is not None:
            raise DetrofitError(f"holds a {module.name}; of such models only RT-DETR with HGNetv2 is known here")
        return None
    renamed = from_ultralytics(state, EPS if module is None else _eps(module))
    options = holder.get("train_args")
    side = options.get("imgsz") if isinstance(options, dict) else None
    return _as_zoo_model(
        "Ultralytics RT-DETR",
        renamed,
        ["rtdetr-l", "rtdetr-x"],
        class_names=_names(module.state.get("names")) if module is not None else None,
        licence="AGPL-3.0, or Ultralytics' enterprise licence, as Ultralytics states for its weights",
        input_size=_size(side, side),
    )


def _eps(module: Inert) -> float:
    """What the batch norms of a pickled model add to the variance; DetrofitError where it is not the same in all."""
    norms = (inner.state for inner in modules_of(module).values() if inner.name.endswith(".BatchNorm2d"))
    found = {state["eps"] for state in norms if isinstance(state, dict) and isinstance(state.get("eps"), float)}
    if len(found) > 1:
        raise DetrofitError(f"its batch norms have different eps: {sorted(found)}")
    return found.pop() if found else EPS


def _from_huggingface(content: Any, beside: Beside) -> Foreign | None:
    state = plain_tensors(content)
    if state is None or not any(name.startswith("model.backbone.model.") for name in state):
        return None
    config, size = beside.config, beside.preprocessor.get("size")
    version = 2 if config.get("model_type") == "rt_detr_v2" or any("n_points_scale" in name for name in state) else 1
    chosen = {"num_queries": config.get("num_queries")}
    if config.get("decoder_method") == "discrete":
        chosen["sampling"] = "discrete"
    _check_fixed(config, _FIXED, "config.json")
    _check_fixed(config.get("backbone_config"), _FIXED_BACKBONE, "config.json")
    _check_fixed(beside.preprocessor, _FIXED_PREPROCESSOR, "preprocessor_config.json")
    return _as_zoo_model(
        f"Hugging Face RT-DETR{'v2' if version == 2 else ''}",
        from_huggingface(state),
        _of_version(version),
        settings={key: value for key, value in chosen.items() if value is not None},
        class_names=_names(config.get("id2label")),
        licence=beside.licence or "not stated in a model card; Apache-2.0 for the published models",
        input_size=_size(size.get("height"), size.get("width")) if isinstance(size, dict) else _INPUT_SIZE,
    )


def _check_fixed(given: Any, fixed: Mapping[str, Any], file: str) -> None:
    """DetrofitError where a configuration, if there is one, would give other outputs."""
    for key, value in fixed.items() if isinstance(given, dict) else ():
        if given.get(key, value) != value:
            raise DetrofitError(f"its {file} has {key} {given[key]!r:.60}, where every model of the zoo has {value!r}")


def _size(height: Any, width: Any) -> tuple[int, int]:
    """An input size as a file states it; the published models' where that is none."""
    return (height, width) if is_input_size((height, width)) else _INPUT_SIZE


def _from_official(content: Any, beside: Beside) -> Foreign | None:
    state = plain_tensors(content)
    if state is None or not any(_OFFICIAL.match(name) for name in state):
        return None
    if isinstance(content, dict) and "libreyolo_version" in content:
        return _from_libreyolo(content, state)
    version = 2 if any("num_points_scale" in name or "enc_output.proj." in name for name in state) else 1
    return _as_zoo_model(
        f"official RT-DETR{'v2' if version == 2 else ''}",
        from_official(state),
        _of_version(version),
        settings=unequal_points(state),
        licence="Apache-2.0, as the official repository states",
    )


def _from_libreyolo(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> Foreign:
    """Checkpoints of its schema 1.0: weights under `model`, family and class names beside them."""
    family, task = content.get("model_family"), content.get("task", "detect")
    if family not in ("rtdetr", "rtdetrv2") or task != "detect":
        told = " for ".join(f"'{word:.40}'" if isinstance(word, str) else "nothing" for word in (family, task))
        raise DetrofitError(f"holds LibreYOLO's {told}; known are rtdetr and rtdetrv2")
    return _as_zoo_model(
        "LibreYOLO RT-DETR" + ("v2" if family == "rtdetrv2" else ""),
        from_official(state),
        _of_version(2 if family == "rtdetrv2" else 1),
        settings=unequal_points(state),
        class_names=_names(content.get("names")),
        licence="not stated in the file; Apache-2.0 for the published models, as LibreYOLO states",
        input_size=_size(content.get("imgsz"), content.get("imgsz")),
    )


def _of_version(version: int) -> list[str]:
    beginning = "rtdetrv2-" if version == 2 else "rtdetr-"
    return [name for name in model_names() if name.startswith(beginning)]


def _names(value: Any) -> tuple[str, ...] | None:
    """Class names from a list or a mapping of ids; None for anything else, also for names that a library made up."""
    if isinstance(value, dict):  # by number, which JSON makes a text
        by_id = {str(number): number for number in range(len(value))}
        value = [value.get(number, value.get(text)) for text, number in by_id.items()]
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(name, str) and name.isprintable() for name in value):
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
    input_size: tuple[int, int] = _INPUT_SIZE,
) -> Foreign:
    """The weights with the model of the zoo whose tensors have the same names and shapes."""
    if HEAD not in state or OFFSETS not in state or state[HEAD].ndim != 2:
        raise DetrofitError(f"looks like {source}, but without its decoder; is the checkpoint complete?")
    chosen = {**frame_numbers(state), **(settings or {})}
    classes = len(state[HEAD])
    if class_names is not None and len(class_names) != classes:
        class_names = None
    shapes = {name: tensor.shape for name, tensor in state.items()}
    differences = {}
    for name in candidates:
        own = _shapes(name, classes, chosen)
        differences[name] = [key for key in sorted(own.keys() | shapes.keys()) if own.get(key) != shapes.get(key)]
        if not differences[name]:
            weights = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
            return Foreign(source, weights, name, chosen, class_names, licence, input_size)
    nearest = min(differences, key=lambda name: len(differences[name]))
    wrong = differences[nearest]
    raise DetrofitError(
        f"looks like {source}, but is no model of the zoo: {len(wrong)} tensors differ from {nearest}, "
        f"first '{wrong[0]}'"
    )


def _shapes(name: str, classes: int, settings: Mapping[str, Any]) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model, _ = assemble(*frame_and_choices(name, None, settings), num_classes=classes)
    return {key: tensor.shape for key, tensor in model.state_dict().items()}
