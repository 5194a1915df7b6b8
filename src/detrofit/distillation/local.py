"""Local training: parts learn, each by itself, to do what the modules do that they shall replace."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detrofit.distillation.features import Lesson
from detrofit.distillation.imitation import imitation_error
from detrofit.errors import DetrofitError
from detrofit.files import atomic_write
from detrofit.parts.layers import seed_drop_paths
from detrofit.weights.archive import read_archive

FORMAT = 1
ERROR_DECAY = 0.9  # of the running mean of the error, over about ten steps


@dataclass(frozen=True)
class LocalSettings:
    """How parts are trained: AdamW, a linear warm-up, then a half cosine to nothing."""

    steps: int = 300
    lr: float = 2e-3
    weight_decay: float = 1e-4
    warmup: int = 10
    clip: float = 1.0
    save_every: int = 50

    def lr_factor(self, step: int) -> float:
        """The learning rate at a step as a share of the peak."""
        warmed = min(1.0, (step + 1) / self.warmup)
        return warmed * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass
class Trainee:
    """A part in training.

    Attributes:
        key: its name, unlike any other's.
        place: the teacher's module that it imitates.
        error: running mean of the imitation error; NaN once it has diverged, after which it is left alone.
    """

    key: str
    place: str
    module: nn.Module
    error: float = field(default=1.0, init=False)

    @property
    def diverged(self) -> bool:
        return not math.isfinite(self.error)


class LocalTraining:
    """Trains many parts at once, all from the same lessons; none sees another.

    `autocast` is the context in which the parts run; losses are not scaled, so fp16 would lose small gradients. Raises
    ValueError for two trainees of one key.
    """

    def __init__(
        self,
        trainees: Sequence[Trainee],
        settings: LocalSettings,
        *,
        seed: int = 0,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        if len({trainee.key for trainee in trainees}) < len(trainees):
            raise ValueError("two trainees have one key")
        self.trainees, self.settings, self.seed, self.autocast = list(trainees), settings, seed, autocast
        self.step = 0
        self._whole = True  # no update was broken off
        self._optimizers = {each.key: _optimizer(each.module, settings) for each in trainees}

    def run(
        self,
        lessons: Callable[[int], Iterator[Lesson]],
        state_file: Path | None = None,
        advance: Callable[[], None] = lambda: None,
        held_back: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Train to the last step, from `lessons(step)` on.

        The state goes to a file now and then, at the end, and when it is interrupted; `held_back` is the context of an
        update, which lets none be interrupted half-way.
        """
        if self.step >= self.settings.steps:
            return
        try:
            for lesson in lessons(self.step):
                with held_back():
                    self.learn(lesson)
                advance()
                if state_file is not None:
                    self.save_if_due(state_file)
                if self.step >= self.settings.steps:
                    return
        except KeyboardInterrupt:
            if state_file is not None:
                self.save_whole(state_file)
            raise

    def learn(self, lesson: Lesson) -> None:
        """One update of every trainee."""
        self._whole = False
        for trainee in self.trainees:
            optimizer = self._optimizers[trainee.key]
            if optimizer is not None and not trainee.diverged:
                self._update(trainee, optimizer, lesson)
            elif optimizer is None:
                self._note(trainee, self._loss(trainee, lesson))
        self.step += 1
        self._whole = True

    def _update(self, trainee: Trainee, optimizer: torch.optim.Optimizer, lesson: Lesson) -> None:
        trainee.module.train()
        seed_drop_paths(trainee.module, self.seed, self.step)
        loss = self._loss(trainee, lesson)
        self._note(trainee, loss)
        if trainee.diverged:
            return
        for group in optimizer.param_groups:
            group["lr"] = self.settings.lr * self.settings.lr_factor(self.step)
        loss.backward()
        nn.utils.clip_grad_norm_(trainee.module.parameters(), self.settings.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _loss(self, trainee: Trainee, lesson: Lesson) -> torch.Tensor:
        pair = lesson.pairs[trainee.place]
        with self.autocast():
            output = trainee.module(*_full(pair.inputs))
        return imitation_error(output, pair.output, lesson.weights)

    def _note(self, trainee: Trainee, loss: torch.Tensor) -> None:
        decay = min(ERROR_DECAY, self.step / (self.step + 1))
        trainee.error = decay * trainee.error + (1 - decay) * float(loss.detach())

    def save_if_due(self, file: Path) -> None:
        """Write the state every `save_every` steps and after the last one."""
        if self.step == self.settings.steps or self.step % self.settings.save_every == 0:
            self.save(file)

    def save_whole(self, file: Path) -> None:
        """Write the state, unless an update was broken off half-way: what was saved before it then stays."""
        if self._whole:
            self.save(file)

    def save(self, file: Path) -> None:
        """Write the state, whole or not at all."""
        content = {
            "format": FORMAT,
            "step": self.step,
            "settings": vars(self.settings),
            "errors": {each.key: each.error for each in self.trainees},
            "modules": {each.key: each.module.state_dict() for each in self.trainees},
            "optimizers": {key: each.state_dict() for key, each in self._optimizers.items() if each is not None},
        }
        with atomic_write(file) as temporary:
            try:
                torch.save(content, temporary)
            except RuntimeError as error:  # what torch makes of an OSError
                raise OSError("not all of it could be written") from error

    def restore(self, file: Path) -> bool:
        """Go on from a saved state; False where there is none for these trainees and settings."""
        if not file.exists():
            return False
        try:
            content = read_archive(file)
            fits = content["format"] == FORMAT and content["settings"] == vars(self.settings)
            if not fits or content["modules"].keys() != {each.key for each in self.trainees}:
                return False
            for trainee in self.trainees:
                trainee.module.load_state_dict(content["modules"][trainee.key])
                trainee.error = content["errors"][trainee.key]
            for key, state in content["optimizers"].items():
                self._optimizers[key].load_state_dict(state)  # type: ignore[union-attr]
            self.step = content["step"]
        except (DetrofitError, KeyError, TypeError, RuntimeError, ValueError, AttributeError):
            raise DetrofitError(f"{file} is damaged or of other parts; remove it, and they are trained anew") from None
        return True


def _full(value: Any) -> Any:
    """Fresh float32 copies: a part may change what it is given in place."""
    if isinstance(value, torch.Tensor):
        return value.to(torch.float32, copy=True)
    return type(value)(_full(item) for item in value)


def _optimizer(module: nn.Module, settings: LocalSettings) -> torch.optim.AdamW | None:
    """AdamW without decay of norms and biases; None for a part without numbers to learn."""
    parameters = list(module.parameters())
    if not parameters:
        return None
    groups = [
        {"params": [each for each in parameters if each.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [each for each in parameters if each.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.lr, foreach=True)
