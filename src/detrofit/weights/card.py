"""The model card of a model file: what it is, what it was trained on, how good it is, how to use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from detrofit.config.models import checked_frame, stock_model
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.detector import RTDETR
from detrofit.parts.registry import get_part
from detrofit.weights.model_file import ModelInfo, load_model, read_info

_NO_LICENCE = "not stated in the file; those of the data and of the weights that it started from apply"
_HUB_LICENCES = ("Apache-2.0", "AGPL-3.0", "MIT", "BSD-3-Clause", "CC0-1.0", "CC-BY-4.0")  # as hubs know them


def model_card(file: Path, plugins: tuple[Path, ...] = ()) -> str:
    """A model card in Markdown with the metadata block that hubs read; DetrofitError for no model file of ours."""
    info, model = read_info(file), load_model(file, plugins=plugins)
    facts = dict(info.trained)
    licence = _licence(facts)
    height, width = info.input_size
    swapped = [f"- `{place}`: `{model.slots[place]['part']}`" for place in model.retrofit if place in model.slots]
    parts = sorted({choice["part"] for choice in model.slots.values()} - {"none"})
    sections = [
        _front_matter(licence),
        f"# {file.stem}",
        f"An object detector: {info.name}" + (" with other parts in these slots:" if swapped else ", unchanged."),
        "\n".join(swapped),
        _table(
            {
                "classes": f"{len(info.class_names)}: {', '.join(info.class_names)}",
                "input": f"{height} x {width} pixels (height x width), resized without keeping the ratio",
                "parameters": f"{count_parameters(model):,}",
                "operations": f"{count_flops(model, info.input_size) / 1e9:.1f} GFLOPs for one picture",
                "threshold": f"{info.threshold:.3f}, {_threshold_from(info)}",
            }
        ),
        "## Training and metrics\n\n" + (_table(_flat(facts)) if facts else "The file does not say."),
        f"## Configuration\n\n```yaml\n{_configuration(info.name, model)}```",
        f"## Licence\n\nWeights: {licence}.",
        "Parts: " + "; ".join(f"`{name}` ({get_part(name).licence or 'not stated'})" for name in parts) + ".",
        f"## Use\n\n```python\nfrom detrofit import Detector\n\n"
        f'detector = Detector("{file.name}")\ndetections = detector("picture.jpg")\n```',
        f"```sh\ndetrofit predict {file.name} picture.jpg\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _threshold_from(info: ModelInfo) -> str:
    """Where the threshold is from: weights of other programs come without one."""
    return "not chosen for this model" if "imported_from" in info.trained else "chosen on the validation split"


def _licence(facts: dict[str, Any]) -> str:
    """What is known of the licence, taken out of the facts about the training."""
    stated, of_start = facts.pop("licence", None), facts.pop("licence_of_start", None)
    return str(stated or (f"{_NO_LICENCE} ({of_start})" if of_start else _NO_LICENCE))


def _front_matter(licence: str) -> str:
    """The block that hubs read; the licence where it is one that they know."""
    known = next((name for name in _HUB_LICENCES if licence.lower().startswith(name.lower())), None)
    lines = ["library_name: detrofit", "pipeline_tag: object-detection", "tags: [object-detection, rt-detr]"]
    return "\n".join(["---", *([f"license: {known.lower()}"] if known else []), *lines, "---"])


def _configuration(name: str, model: RTDETR) -> str:
    """The model as `--config` takes it: what of the frame differs from the stock model's, and the retrofit."""
    stock = checked_frame(stock_model(name).frame).model_dump(mode="json")
    frame = {key: value for key, value in model.frame.model_dump(mode="json").items() if value != stock[key]}
    retrofit = {place: model.slots[place] for place in model.retrofit if place in model.slots}
    content = {"model": {"name": name, **frame} if frame else name, **({"retrofit": retrofit} if retrofit else {})}
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)


def _table(rows: Mapping[str, Any]) -> str:
    lines = [f"| {key} | {str(value).replace('|', chr(92) + '|')} |" for key, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])


def _flat(facts: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested facts as one level, keys joined by dots."""
    rows: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{before}{key}.")
        else:
            rows[f"{before}{key}"] = f"{value:.4f}" if isinstance(value, float) else value
    return rows
