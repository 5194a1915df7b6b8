"""Exporting a model file: write, run beside the model, and hand over only what agrees with it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detrofit.data.open import open_dataset
from detrofit.deployment.onnx import ExportOptions, write_onnx
from detrofit.deployment.parity import (
    CheckPictures,
    ParityLimits,
    ParityRecord,
    compare,
    drawn_pictures,
    split_pictures,
)
from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.runtime.backends import open_backend
from detrofit.training.run_folder import BEST
from detrofit.training.score import check_classes
from detrofit.weights.model_file import load_model, read_info
from detrofit.weights.torch_backend import TorchBackend

Format = Literal["onnx", "openvino"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml"}
PARITY_LIMITS = ParityLimits()


@dataclass(frozen=True)
class Exported:
    """An exported file that agrees with its model, and the record that says so (also beside it as JSON)."""

    file: Path
    parity: ParityRecord


def export_file(
    file: Path,
    format_: Format = "onnx",
    options: ExportOptions | None = None,
    *,
    out: Path | None = None,
    data: Path | None = None,
    plugins: Iterable[Path] = (),
    limits: ParityLimits = PARITY_LIMITS,
) -> Exported:
    """Export a model file (or a run folder's best one), and check the result on pictures.

    Args:
        out: the file to write, by default beside the model's; parity is recorded in `out` with `.parity.json` after.
        data: a data set whose validation split is run and scored; by default drawn pictures are run.
        limits: how far the exported file may differ.

    Raises DetrofitError for anything that cannot be exported, and where the result is past the limits: it is then
    kept with `.rejected` after its name.
    """
    file = file / BEST if file.is_dir() else file
    target = out or file.with_suffix(SUFFIXES[format_])
    if target.suffix.lower() != SUFFIXES[format_]:
        raise DetrofitError(f"an {format_} file ends in {SUFFIXES[format_]}, not as in '{target}'")
    plugins = list(plugins)
    pictures = _check_pictures(file, data)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = _write(Path(folder) / target.name, file, format_, options or ExportOptions(), plugins)
        record = compare(TorchBackend(file, "cpu", plugins), open_backend(written[-1], "cpu"), pictures, limits)
        failure = record.failure()
        ending = ".rejected" if failure else ""
        for each in written:  # what names the others comes last
            os.replace(each, target.with_name(each.name + ending))
    rejected = target.with_name(target.name + ending)
    write_file(rejected.with_name(f"{rejected.name}.parity.json"), json.dumps(record.to_dict(), indent=1) + "\n")
    if failure:
        raise DetrofitError(f"the exported file disagrees with its model: {failure}; it is kept as {rejected}")
    return Exported(target, record)


def _check_pictures(file: Path, data: Path | None) -> CheckPictures:
    if data is None:
        return drawn_pictures()
    index = open_dataset(data).split("val")
    check_classes(read_info(file), index, file)
    return split_pictures(index)


def _write(target: Path, file: Path, format_: Format, options: ExportOptions, plugins: list[Path]) -> list[Path]:
    """Write what the format needs beside each other; the file to open is the last."""
    onnx_file = target.with_suffix(".onnx")
    write_onnx(onnx_file, load_model(file, plugins=plugins), read_info(file), options)
    if format_ == "onnx":
        return [onnx_file]
    from detrofit.deployment.openvino import write_openvino  # an extra of its own

    write_openvino(target, onnx_file)
    return [target.with_suffix(".bin"), target]
