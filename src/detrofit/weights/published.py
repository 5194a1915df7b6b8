"""Where weights are published: of whole detectors by the zoo's name, of backbones by part and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from detrofit.model.detector import RTDETR


@dataclass(frozen=True)
class Published:
    """Weights that anybody may have: a source as `--weights` takes it, and the licence that their publisher states."""

    source: str
    licence: str


def published_detector(model: str) -> Published | None:
    """The COCO weights of a model of the zoo; None where nobody published any."""
    entry = _table()["detectors"].get(model)
    return None if entry is None else Published(**entry)


def published_backbone(model: RTDETR) -> Published | None:
    """The ImageNet weights of a model's backbone; None where nobody published any."""
    backbone: Any = model.backbone
    if hasattr(backbone, "timm_arguments"):
        return _of_timm(backbone.timm_arguments["model_name"])
    choice = model.slots["backbone"]
    for entry in _table()["backbones"]:
        if entry["part"] == choice["part"] and all(
            _same(choice[key], value) for key, value in entry["options"].items()
        ):
            return Published(entry["source"], entry["licence"])
    return None


def _of_timm(name: str) -> Published | None:
    import timm.models

    config = timm.models.get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        return None
    source = f"hf:{config.hf_hub_id}" if config.hf_hub_id else config.url
    return Published(source, config.license or "not stated by timm") if isinstance(source, str) else None


def _same(chosen: Any, listed: Any) -> bool:
    return list(chosen) == listed if isinstance(listed, list) else bool(chosen == listed)


@cache
def _table() -> Mapping[str, Any]:
    content: Mapping[str, Any] = yaml.safe_load(
        resources.files("detrofit.weights").joinpath("published.yaml").read_text("utf-8")
    )
    return content
