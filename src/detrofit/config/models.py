"""The zoo: stock models by name, and building one with a retrofit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from detrofit.errors import DetrofitError, nearest

if TYPE_CHECKING:
    from detrofit.model.detector import RTDETR
    from detrofit.model.frame import Frame
    from detrofit.parts.retrofit import PartChoice


@dataclass(frozen=True)
class StockModel:
    """A model of the zoo: its frame's numbers and the choices for its slots, as its file has them."""

    name: str
    description: str
    frame: Mapping[str, Any]
    slots: Mapping[str, Any]


def model_names() -> list[str]:
    """The names of the zoo's models."""
    folder = resources.files("detrofit.zoo")
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir() if file.name.endswith(".yaml"))


def stock_model(name: str) -> StockModel:
    """The stock model of that name; DetrofitError with the nearest spelling otherwise."""
    if name not in model_names():
        raise DetrofitError(f"there is no model '{name}'{nearest(name, model_names())}; `detrofit models` lists them")
    content = yaml.safe_load(resources.files("detrofit.zoo").joinpath(f"{name}.yaml").read_text("utf-8"))
    base = stock_model(content["base"]) if "base" in content else StockModel("", "", {}, {})
    return StockModel(
        name,
        content["description"],
        {**base.frame, **content.get("frame", {})},
        {**base.slots, **content.get("slots", {})},
    )


def frame_and_choices(
    name: str, retrofit: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[Frame, dict[str, PartChoice], dict[str, PartChoice]]:
    """The frame with `settings` over the stock model's, its stock choices, and the retrofit, all checked."""
    from detrofit.parts.retrofit import parse_retrofit

    stock = stock_model(name)
    return (
        checked_frame({**stock.frame, **(settings or {})}),
        parse_retrofit(stock.slots),
        parse_retrofit(retrofit or {}),
    )


def checked_frame(values: Mapping[str, Any]) -> Frame:
    """A frame from its numbers; DetrofitError naming the setting otherwise."""
    from detrofit.model.frame import Frame

    try:
        return Frame(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(piece) for piece in first["loc"])
        hint = nearest(key, Frame.model_fields) if first["type"] == "extra_forbidden" else ""
        raise DetrofitError(f"model.{key or 'frame'}: {first['msg'].lower()}{hint}") from None


def build(
    name: str,
    retrofit: Mapping[str, Any] | None = None,
    *,
    num_classes: int,
    settings: Mapping[str, Any] | None = None,
    plugins: Iterable[str | Path] = (),
    seed: int = 0,
) -> RTDETR:
    """A model of the zoo with a retrofit, its initial values drawn from `seed`.

    Args:
        name: of the stock model, e.g. "rtdetr-r18".
        retrofit: slots to parts, e.g. `{"backbone.stage4.block": "extradw"}`.
        num_classes: classes it tells apart.
        settings: numbers of the frame that differ, e.g. `{"num_queries": 100}`.
        plugins: files with parts of one's own.

    Raises DetrofitError for anything wrong, before any work.
    """
    from detrofit.model.build import build_model
    from detrofit.parts.registry import load_plugins

    load_plugins(plugins)
    frame, stock, choices = frame_and_choices(name, retrofit, settings)
    return build_model(frame, stock, choices, num_classes=num_classes, seed=seed)
