"""The `export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from detrofit.cli.options import Plugins, parse_image_size


def export(
    file: Annotated[Path, typer.Argument(help="A model file, or a run folder (its best.safetensors).")],
    format_: Annotated[Literal["onnx", "openvino"], typer.Option("--format", help="What to write.")] = "onnx",
    imgsz: Annotated[
        str | None, typer.Option(help="Input size: one number, or HEIGHT,WIDTH; default: the trained one.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Pictures at a time: a number, or dynamic.")] = "1",
    raw: Annotated[bool, typer.Option("--raw", help="Logits and boxes of all queries instead of detections.")] = False,
    sampler: Annotated[
        Literal["grid", "gather"], typer.Option(help="gather: for runtimes whose GridSample is wrong or missing.")
    ] = "grid",
    data: Annotated[
        Path | None, typer.Option(help="Data whose val split the file is run on and scored; default: drawn pictures.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write; default: beside the model file.")] = None,
    plugin: Plugins = [],  # noqa: B006 - typer needs a list
) -> None:
    """Export a trained model to ONNX or OpenVINO, checked against the model on pictures."""
    from detrofit.deployment.export import export_file
    from detrofit.deployment.onnx import ExportOptions

    size = parse_image_size(imgsz) if imgsz else None
    options = ExportOptions(size, _parse_batch(batch), raw, sampler)
    exported = export_file(file, format_, options, out=out, data=data, plugins=plugin)
    parity = exported.parity
    print(
        f"{exported.file}: {parity.matched_share:.1%} of {parity.compared} detections in {parity.pictures} pictures "
        f"match; largest differences {parity.largest_box_difference:.2g} pixels and "
        f"{parity.largest_score_difference:.2g} in score"
    )
    if parity.ap_torch is not None and parity.ap_file is not None:
        print(f"AP on {parity.source}: {parity.ap_file:.4f} (the model: {parity.ap_torch:.4f})")


def _parse_batch(text: str) -> int | None:
    """A number, or None for `dynamic`."""
    from detrofit.errors import DetrofitError

    if text == "dynamic":
        return None
    if not text.isdigit() or int(text) < 1:
        raise DetrofitError(f"--batch takes a number from 1 on or 'dynamic', not '{text}'")
    return int(text)
