"""Scoring a model file on a split of a data set."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError, DetrofitWarning, nearest
from detrofit.evaluation.error_impact import analyse_errors
from detrofit.evaluation.error_page import save_error_page
from detrofit.evaluation.evaluate import Evaluation, evaluate
from detrofit.evaluation.picture_grid import save_picture_grid, spread_indices
from detrofit.files import write_file
from detrofit.tiling import Tiling
from detrofit.training.devices import Devices
from detrofit.training.prepare import check_pictures
from detrofit.training.run_folder import BEST
from detrofit.training.tiled import predict_tiles
from detrofit.training.validate import predict_split
from detrofit.training.workers import default_workers
from detrofit.weights.foreign import unnamed_classes
from detrofit.weights.model_file import ModelInfo, load_model, read_info

SHOWN_PICTURES = 8


def score_file(
    file: Path,
    data: Path,
    split: str,
    *,
    imgsz: tuple[int, int] | None = None,
    batch: int = 8,
    workers: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    out: Path | None = None,
    plugins: Iterable[Path] = (),
    tiling: Tiling | None = None,
) -> tuple[Path, Evaluation | None]:
    """Score a model file (or a run folder's best one); the folder with the results, and the scores.

    With `tiling` the pictures are seen in tiles. On processes other than the main one the scores are None. Raises
    DetrofitError where file and data do not go together.
    """
    file = file / BEST if file.is_dir() else file
    info = read_info(file)
    index = open_dataset(data).split(split)
    check_pictures(index, data)
    check_classes(info, index, file)
    devices = Devices(device, precision)
    model = load_model(file, plugins=plugins)
    model = devices.place(model).eval()
    with Progress(console=Console(stderr=True), disable=not devices.is_main) as progress:
        task = progress.add_task(f"scoring {split}", total=len(index) // devices.world_size)
        predict = predict_split if tiling is None else partial(predict_tiles, tiling=tiling)
        predictions = predict(
            model,
            index,
            imgsz or info.input_size,
            devices,
            batch=batch,
            workers=default_workers(workers),
            max_detections=model.frame.max_detections,
            advance=lambda done: progress.advance(task, done),
        )
    folder = out or file.parent / (f"val-{split}-tiled" if tiling else f"val-{split}")
    if not devices.is_main:
        return folder, None
    evaluation = evaluate(index, predictions, info.threshold)
    evaluation.save(folder)
    predictions.write(folder / "predictions.json", index)
    errors = analyse_errors(index, predictions, evaluation.operating_point.threshold)
    write_file(folder / "errors.json", json.dumps(errors.to_dict(), indent=1) + "\n")
    save_error_page(index, predictions, evaluation, errors, folder / "errors.html", f"{file.stem} on {split}")
    shown = spread_indices(index, SHOWN_PICTURES)
    save_picture_grid(index, predictions, shown, folder / "pictures.jpg", evaluation.operating_point.threshold)
    return folder, evaluation


def check_classes(info: ModelInfo, index: DetectionIndex, file: Path) -> None:
    """DetrofitError unless the model's classes are those of the data, in their order.

    As many classes without names, as official checkpoints have them, are taken to be them, with a warning.
    """
    if tuple(info.class_names) == tuple(index.class_names):
        return
    if tuple(info.class_names) == unnamed_classes(len(index.class_names)):
        message = f"{file.name} does not name its classes; they are taken to be those of the data, in their order"
        warnings.warn(message, DetrofitWarning, stacklevel=2)
        return
    unknown = [name for name in index.class_names if name not in info.class_names]
    if unknown:
        raise DetrofitError(
            f"{file} does not know the class '{unknown[0]}' of the data{nearest(unknown[0], info.class_names)}; "
            f"it knows {', '.join(info.class_names)}"
        )
    raise DetrofitError(
        f"{file} was trained for the classes {', '.join(info.class_names)}, the data has "
        f"{', '.join(index.class_names)}: give data with the same classes in the same order"
    )
