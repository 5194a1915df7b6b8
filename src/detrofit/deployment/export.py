"""Exporting a model file: write, run beside the model, and hand over only what agrees with it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from detrofit.data.index import DetectionIndex
from detrofit.data.open import Dataset, open_dataset
from detrofit.deployment.calibration import Calibration, calibration_of
from detrofit.deployment.describe import describe
from detrofit.deployment.machine import describe_machine
from detrofit.deployment.map_reading import openvino_sampler
from detrofit.deployment.onnx import ExportOptions, write_onnx
from detrofit.deployment.parity import (
    CheckPictures,
    ParityLimits,
    ParityRecord,
    compare,
    drawn_pictures,
    split_pictures,
)
from detrofit.deployment.precisions import Precisions, time_precisions
from detrofit.errors import DetrofitError
from detrofit.files import file_digest, write_file
from detrofit.runtime.backends import open_backend
from detrofit.runtime.exported import Precision
from detrofit.training.run_folder import BEST
from detrofit.training.score import check_classes
from detrofit.weights.model_file import ModelInfo, load_model, read_info
from detrofit.weights.torch_backend import TorchBackend

Format = Literal["onnx", "openvino"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml"}
LIMITS: dict[Precision, ParityLimits] = {
    "float32": ParityLimits(),
    # Rounding moves single boxes and exchanges queries of nearly equal scores, so that their share says little.
    "half": ParityLimits(box=4.0, score=0.05, matched_share=0.8, ap_drop=0.003),
    "int8": ParityLimits(box=4.0, score=0.05, matched_share=None, ap_drop=0.005),
}


@dataclass(frozen=True)
class Exported:
    """An exported file that agrees with its model, and the record that says so (also beside it as JSON); `speed` tells
    what a smaller precision brings here."""

    file: Path
    parity: ParityRecord
    speed: Precisions | None


def export_file(
    file: Path,
    format_: Format = "onnx",
    options: ExportOptions | None = None,
    *,
    out: Path | None = None,
    data: Path | None = None,
    plugins: Iterable[Path] = (),
    limits: ParityLimits | None = None,
) -> Exported:
    """Export a model file (or a run folder's best one), and check the result on pictures.

    Args:
        out: the file to write, by default beside the model's; parity is recorded in `out` with `.parity.json` after.
        data: a data set whose validation split is run and scored, and on whose training split INT8 is calibrated; by
            default drawn pictures are run.
        limits: how far the exported file may differ; by default `LIMITS` of its precision.

    Raises DetrofitError for anything that cannot be exported, and where the result is past the limits: it is then
    kept with `.rejected` after its name.
    """
    file, options, plugins = file / BEST if file.is_dir() else file, options or ExportOptions(), list(plugins)
    info, target = read_info(file), out or default_target(file, format_, options.precision)
    if target.suffix.lower() != SUFFIXES[format_]:
        raise DetrofitError(f"an {format_} file ends in {SUFFIXES[format_]}, not as in '{target}'")
    dataset = open_dataset(data) if data else None
    pictures = _check_pictures(file, info, dataset, options.precision)
    calibration = _calibration(file, info, dataset, options)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        written = write_exported(Path(folder) / target.name, file, format_, options, calibration, plugins)
        limits = limits or LIMITS[options.precision]
        trained = TorchBackend(file, "cpu", plugins, fused=False)  # fusing may go wrong, too
        parity = compare(trained, open_backend(written.file, "cpu"), pictures, limits)
        speed = time_precisions(written.float_file, written.file, written.half_name) if written.float_file else None
        content = {**_provenance(file, written.files), **parity.to_dict(), "speed": speed and speed.to_dict()}
        failure = parity.failure()
        ending = ".rejected" if failure else ""
        for each in written.files:  # what names the others comes last
            os.replace(each, target.with_name(each.name + ending))
    kept = target.with_name(target.name + ending)
    write_file(_record_of(kept), json.dumps(content, indent=1) + "\n")
    if failure:
        raise DetrofitError(f"the exported file disagrees with its model: {failure}; it is kept as {kept}")
    _forget_rejected(target, written.files)
    return Exported(target, parity, speed)


@dataclass(frozen=True)
class Written:
    """What was written: the files of the format, the one to open last; the float32 one that a smaller one was made
    from; and the half precision that the runtime can use with the latter on this machine."""

    files: list[Path]
    float_file: Path | None = None
    half_name: str | None = None

    @property
    def file(self) -> Path:
        return self.files[-1]


def write_exported(
    target: Path,
    file: Path,
    format_: Format,
    options: ExportOptions,
    calibration: Calibration | None = None,
    plugins: Iterable[Path] = (),
) -> Written:
    """Write a model file in a format, unchecked, into a folder that nobody reads yet."""
    base, model = target.with_suffix(".float32.onnx"), load_model(file, plugins=plugins)
    if format_ == "openvino":
        options = replace(options, sampler=options.sampler or openvino_sampler(model.decoder))
    write_onnx(base, model, read_info(file), options)
    if format_ == "openvino":
        return _write_openvino(target, base, options.precision, calibration)
    if options.precision == "float32":
        return Written([base.rename(target)])
    if calibration is None:
        from detrofit.deployment.half import halve_onnx

        halve_onnx(target, base)
    else:
        from detrofit.deployment.quantise import quantise_onnx

        quantise_onnx(target, base, calibration)
    return Written([target], base)


def _write_openvino(target: Path, base: Path, precision: Precision, calibration: Calibration | None) -> Written:
    from detrofit.deployment.openvino import write_openvino  # an extra of its own
    from detrofit.runtime.openvino_backend import half_precision

    write_openvino(target, base, precision, calibration)
    files = [target.with_suffix(".bin"), target]
    half_name = half_precision()
    if precision == "float32" or (precision == "half" and half_name is None):  # which runs in float32 then
        return Written(files)
    float_file = target.with_suffix(".float32.xml")
    write_openvino(float_file, base)
    return Written(files, float_file, half_name)


def default_target(file: Path, format_: Format, precision: Precision) -> Path:
    """Beside the model file, e.g. best.onnx or best.int8.onnx."""
    return file.with_suffix(("" if precision == "float32" else f".{precision}") + SUFFIXES[format_])


def _check_pictures(file: Path, info: ModelInfo, dataset: Dataset | None, precision: Precision) -> CheckPictures:
    if dataset is None:
        return drawn_pictures()
    index = _split(file, info, dataset, "val")
    if precision == "int8" and index.crowd.all():
        raise DetrofitError("INT8 is judged by AP, and the split 'val' has no objects; give data with some")
    return split_pictures(index)


def _calibration(file: Path, info: ModelInfo, dataset: Dataset | None, options: ExportOptions) -> Calibration | None:
    if options.precision != "int8":
        return None
    if dataset is None:
        raise DetrofitError("INT8 is calibrated on training pictures and scored on validation ones: give --data")
    return calibration_of(_split(file, info, dataset, "train"), options.size or info.input_size, options.batch)


def _split(file: Path, info: ModelInfo, dataset: Dataset, name: str) -> DetectionIndex:
    index = dataset.split(name)
    check_classes(info, index, file)
    if not len(index):
        raise DetrofitError(f"the split '{name}' of {dataset.source} has no pictures; an export needs some")
    return index


def _provenance(source: Path, files: list[Path]) -> dict[str, Any]:
    """Which files the record is of, what they say about themselves, and where they were run."""
    return {
        "machine": describe_machine(),
        "files": {each.name: file_digest(each) for each in files},
        "model": {"file": source.name, "sha256": file_digest(source)},
        "description": {**describe(files[-1]), "file": files[-1].name},
    }


def _record_of(file: Path) -> Path:
    return file.with_name(f"{file.name}.parity.json")


def _forget_rejected(target: Path, written: list[Path]) -> None:
    """Remove what an earlier export to the same place left, which is out of date now."""
    rejected = [target.with_name(f"{each.name}.rejected") for each in written]
    for each in (*rejected, _record_of(rejected[-1])):
        with suppress(OSError):
            each.unlink()
