"""Scores the averaged weights, and keeps what a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.evaluation.evaluate import Evaluation
from detrofit.evaluation.picture_grid import save_picture_grid, spread_indices
from detrofit.evaluation.predictions import Predictions
from detrofit.model.detector import RTDETR
from detrofit.training.devices import Devices
from detrofit.training.finite import non_finite_tensor
from detrofit.training.prepare import Material
from detrofit.training.run_folder import BEST, LAST, RunFolder
from detrofit.training.state import Progress, save_state
from detrofit.training.validate import validate
from detrofit.training.workers import default_workers
from detrofit.weights.model_file import ModelInfo, save_model

SHOWN_PICTURES = 6  # of the validation split, with truth and detections, at the best epoch


@dataclass
class Keeper:
    """What happens beside the updates of a training: validation, model files, the state to resume from.

    `average` is the model with the averaged weights, in eval mode.
    """

    experiment: Experiment
    run: RunFolder
    model: RTDETR
    average: RTDETR
    optimizer: torch.optim.Optimizer
    devices: Devices
    material: Material

    def validate(self, progress: Progress) -> Evaluation:
        """Score the validation split, record it, and keep the model file if it is the best so far."""
        self.devices.share_buffers(self.average)
        self._check_average(progress)
        evaluation, predictions = validate(
            self.average,
            self.material.val,
            self.experiment.imgsz,
            self.devices,
            batch=self.experiment.train.batch // self.devices.world_size,
            workers=default_workers(self.experiment.workers),
            max_detections=self.average.frame.max_detections,
        )
        losses = {name: value / max(1, progress.steps_summed) for name, value in progress.sums.items()}
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        progress.threshold = evaluation.summary.get("threshold", progress.threshold)
        row = {"step": progress.step, "epoch": progress.epoch + 1, "lr": lr, **losses, **evaluation.summary}
        self.run.record(row)
        if evaluation.summary["AP"] > progress.best:
            self._save_model(BEST, progress, progress.epoch + 1, evaluation)
            self._save_pictures(predictions, evaluation)
            progress.best = evaluation.summary["AP"]  # last: whoever is interrupted before does all of it again
        return evaluation

    def save(self, progress: Progress) -> None:
        """Keep the newest model file and the state to resume from."""
        self._save_model(LAST, progress, progress.epoch)
        if self.run.writes:
            tensors: dict[str, Any] = {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
            }
            if self.devices.accelerator.scaler is not None:
                tensors["scaler"] = self.devices.accelerator.scaler.state_dict()
            save_state(self.run.path, progress, tensors)

    def _check_average(self, progress: Progress) -> None:
        """DetrofitError where training has diverged, before its detections are scored."""
        name = non_finite_tensor(self.average)
        if name is not None:
            raise DetrofitError(
                f"training has diverged: after {progress.step} steps the averaged weight {name} is not finite. "
                "Lower --lr or set train.precision=fp32, and start anew"
            )

    def _save_pictures(self, predictions: Predictions, evaluation: Evaluation) -> None:
        if self.run.writes:
            index = self.material.val
            shown = spread_indices(index, SHOWN_PICTURES)
            threshold = evaluation.operating_point.threshold
            save_picture_grid(index, predictions, shown, self.run.path / "pictures.jpg", threshold)

    def _save_model(self, name: str, progress: Progress, epochs: int, evaluation: Evaluation | None = None) -> None:
        if not self.run.writes:
            return
        summary = evaluation.summary if evaluation else {}
        dataset = self.material.dataset
        info = ModelInfo(
            name=self.experiment.model.name,
            class_names=tuple(dataset.class_names),
            category_ids=tuple(dataset.category_ids),
            input_size=self.experiment.imgsz,
            threshold=progress.threshold,
            trained={
                "data": self.experiment.data.name,
                "seed": self.experiment.seed,
                "steps": progress.step,
                "epochs": epochs,
                **progress.origin,
                **{f"val_{key}": summary[key] for key in ("AP", "AP50") if key in summary},
            },
        )
        save_model(self.run.path / name, self.average, info)
