"""The model card of a model file: what it is, what it was trained on, how good it is, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detrofit.model.costs import count_flops, count_parameters
from detrofit.parts.registry import get_part
from detrofit.weights.model_file import load_model, read_info

_NO_LICENCE = "not stated in the file; those of the data and of the weights that it started from apply"


def model_card(file: Path, plugins: tuple[Path, ...] = ()) -> str:
    """A model card in Markdown with the metadata block that hubs read; DetrofitError for no model file of ours."""
    info, model = read_info(file), load_model(file, plugins=plugins)
    facts = dict(info.trained)
    licence = facts.pop("licence", None)
    height, width = info.input_size
    swapped = [f"- `{place}`: `{model.slots[place]['part']}`" for place in model.retrofit if place in model.slots]
    parts = sorted({choice["part"] for choice in model.slots.values()} - {"none"})
    sections = [
        "---\nlibrary_name: detrofit\npipeline_tag: object-detection\ntags: [object-detection, rt-detr]\n---",
        f"# {file.stem}",
        f"An object detector: {info.name}" + (" with other parts in these slots:" if swapped else ", unchanged."),
        "\n".join(swapped),
        _table(
            {
                "classes": f"{len(info.class_names)}: {', '.join(info.class_names)}",
                "input": f"{height} x {width} pixels (height x width), resized without keeping the ratio",
                "parameters": f"{count_parameters(model):,}",
                "operations": f"{count_flops(model, info.input_size) / 1e9:.1f} GFLOPs for one picture",
                "threshold": f"{info.threshold:.3f}, chosen on the validation split",
            }
        ),
        "## Training and metrics\n\n" + (_table(_flat(facts)) if facts else "The file does not say."),
        f"## Licence\n\nWeights: {licence or _NO_LICENCE}.",
        "Parts: " + "; ".join(f"`{name}` ({get_part(name).licence or 'not stated'})" for name in parts) + ".",
        f"## Use\n\n```python\nfrom detrofit import Detector\n\n"
        f'detector = Detector("{file.name}")\ndetections = detector("picture.jpg")\n```',
        f"```sh\ndetrofit predict {file.name} picture.jpg\n```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


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
