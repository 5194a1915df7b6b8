"""The `export` command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detrofit.cli.options import Plugins, Weights, model_file, parse_image_size

if TYPE_CHECKING:
    from detrofit.deployment.export import Exported
    from detrofit.deployment.parity import ParityLimits
    from detrofit.runtime.exported import Precision


def export(
    file: Annotated[str | None, typer.Argument(help="A model file, or a run folder (its best.safetensors).")] = None,
    weights: Weights = None,
    format_: Annotated[Literal["onnx", "openvino"], typer.Option("--format", help="What to write.")] = "onnx",
    data: Annotated[
        Path | None,
        typer.Option(help="Data: the file is run and scored on its val split, INT8 calibrated on its train split."),
    ] = None,
    int8: Annotated[bool, typer.Option("--int8", help="Backbone and encoder in 8 bits; needs --data.")] = False,
    half: Annotated[bool, typer.Option("--half", help="16 bits, computed where the device can.")] = False,
    imgsz: Annotated[
        str | None, typer.Option(help="Input size: one number, or HEIGHT,WIDTH; default: the trained one.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Pictures at a time: a number, or dynamic.")] = "1",
    raw: Annotated[bool, typer.Option("--raw", help="Logits and boxes of all queries instead of detections.")] = False,
    sampler: Annotated[
        Literal["grid", "gather"] | None,
        typer.Option(help="gather: without GridSample, which some runtimes get wrong; default: the faster one."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="ONNX opset: 16, 17 or 18; default: 17.")] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="AP points that may be lost; default: 0.1, half 0.3, INT8 0.5."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: beside the model file.")] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Export a trained model to ONNX or OpenVINO, checked against the model on pictures."""
    from detrofit.deployment.export import default_target, export_file
    from detrofit.deployment.onnx import OPSET, ExportOptions

    precision = _precision(int8, half)
    size = parse_image_size(imgsz) if imgsz else None
    options = ExportOptions(size, _parse_batch(batch), raw, sampler, OPSET if opset is None else opset, precision)
    limits = _limits(precision, max_drop)
    with model_file(file, weights) as (path, in_place):
        out = out if out or in_place else default_target(Path(path.name), format_, precision)
        _print(export_file(path, format_, options, out=out, data=data, plugins=plugin, limits=limits))


def _precision(int8: bool, half: bool) -> Precision:
    from detrofit.errors import DetrofitError

    if int8 and half:
        raise DetrofitError(
            "give --int8 or --half: what an INT8 file has in float runs in half precision where the processor can"
        )
    return "int8" if int8 else "half" if half else "float32"


def _limits(precision: Precision, max_drop: float | None) -> ParityLimits:
    import math
    from dataclasses import replace

    from detrofit.deployment.export import LIMITS
    from detrofit.errors import DetrofitError

    if max_drop is not None and not math.isfinite(max_drop):  # nothing would be past it
        raise DetrofitError(f"--max-drop takes points of AP, not {max_drop}")
    limits = LIMITS[precision]
    return limits if max_drop is None else replace(limits, ap_drop=max_drop / 100)


def _parse_batch(text: str) -> int | None:
    """A number, or None for `dynamic`."""
    from detrofit.errors import DetrofitError

    if text == "dynamic":
        return None
    if not text.isdigit() or int(text) < 1:
        raise DetrofitError(f"--batch takes a number from 1 on or 'dynamic', not '{text}'")
    return int(text)


def _print(exported: Exported) -> None:
    parity = exported.parity
    print(
        f"{exported.file}: {parity.matched_share:.1%} of {parity.compared} detections in {parity.pictures} pictures "
        f"match within {parity.limits.box:g} pixels and {parity.limits.score:g} in score; largest differences "
        f"{parity.largest_box_difference:.2g} pixels and {parity.largest_score_difference:.2g} in score"
    )
    if parity.ap_torch is not None and parity.ap_file is not None:
        sure = ""
        if parity.ap_difference is not None:
            low, high = (100 * end for end in parity.ap_difference)
            sure = f"; difference over drawings of the pictures, 95 %: {low:+.2f} to {high:+.2f}"
        model, exported_ap = 100 * parity.ap_torch, 100 * parity.ap_file
        print(f"AP on {parity.source}: {exported_ap:.2f} points (the model: {model:.2f}{sure})")
    if exported.speed is not None:
        print(*exported.speed.in_words(), sep="\n")
