"""The numbers of a training that follow from the data and the settings: steps, learning rates, averaging."""

from __future__ import annotations

import math
from dataclasses import dataclass

from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError

TARGET_STEPS = 7_200  # updates that a default training aims at: 72 epochs of 1,600 pictures in batches of 16
EPOCH_RANGE = (12, 120)  # below, augmentation has no time to vary; above, small data sets only overfit
REFERENCE_BATCH = 16  # the batch of the published recipe, whose learning rate is REFERENCE_LR
REFERENCE_LR = 1e-4
FRESH_LR_FACTOR = 5.0  # short trainings from random numbers need larger steps than the published 72 COCO epochs
FRESH_LR_STEPS = 20_000  # up to so many updates; longer ones are stable only at the published rate
EMA_HORIZONS = 10  # the averaging window is at most this fraction of the training
MAX_WARMUP = 2_000
# One epoch in so many goes without strong augmentation, as published (1 of 72 to 3 of 120). On 205 pictures, 4 of 40
# cost 0.02 of validation AP.
WEAK_EPOCHS_IN = 30


@dataclass(frozen=True)
class Plan:
    """What the loop does, all derived: updates are optimizer steps, learning rates are peaks.

    Attributes:
        steps_per_epoch: updates of an epoch; `total_steps` of the training.
        strong_epochs: epochs with all augmentation; the rest have only the flips.
        ema_decay, ema_ramp: decay of the averaged weights and the steps over which it grows to that.
    """

    epochs: int
    steps_per_epoch: int
    total_steps: int
    warmup_steps: int
    lr: float
    backbone_lr_factor: float
    strong_epochs: int
    ema_decay: float
    ema_ramp: float
    final_lr: float

    def lr_factor(self, step: int) -> float:
        """The learning rate at an update as a share of the peak: linear warm-up, then a half cosine."""
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        progress = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        return self.final_lr + (1 - self.final_lr) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_plan(experiment: Experiment, steps_per_epoch: int, *, pretrained: str) -> Plan:
    """The plan for that many updates an epoch; `pretrained` says what is: "model", "backbone" or "nothing".

    Defaults suit 200 pictures as well as 100,000: they are counted in updates, not in epochs.
    """
    settings = experiment.train
    low, high = EPOCH_RANGE
    epochs = settings.epochs or min(high, max(low, round(TARGET_STEPS / steps_per_epoch)))
    total = epochs * steps_per_epoch
    warmup = min(MAX_WARMUP, total // 20) if settings.warmup_steps is None else settings.warmup_steps
    if warmup >= total:
        raise DetrofitError(f"train.warmup_steps = {warmup} is no less than the {total} steps of this training")
    fresh = 1.0 if pretrained == "model" or total > FRESH_LR_STEPS else FRESH_LR_FACTOR
    batch = settings.batch * settings.accumulate
    lr = settings.lr or REFERENCE_LR * fresh * math.sqrt(batch / REFERENCE_BATCH)
    backbone = settings.backbone_lr_factor
    if backbone is None:
        backbone = {"model": 0.1, "backbone": 0.3, "nothing": 1.0}[pretrained]
    stop = experiment.augment.stop_epochs
    weak = min(epochs, max(1, epochs // WEAK_EPOCHS_IN) if stop is None else stop)
    return Plan(
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        total_steps=total,
        warmup_steps=warmup,
        lr=lr,
        backbone_lr_factor=backbone,
        strong_epochs=epochs - weak,
        ema_decay=min(settings.ema_decay, max(0.0, 1 - EMA_HORIZONS / total)),
        ema_ramp=min(MAX_WARMUP, max(1.0, total / 20)),
        final_lr=1.0 if settings.schedule == "constant" else settings.final_lr,
    )
