"""What a training keeps and under which terms it runs: the best epoch's averaged weights, the schedule, the splits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from detrofit.data.loader import TrainingLoader
from detrofit.training import keeper
from detrofit.training.loop import RunResult, train
from detrofit.training.plan import make_plan
from detrofit.training.run_folder import BEST, LAST
from detrofit.training.step import Stepper
from detrofit.weights.model_file import load_model, read_info
from tests.training.conftest import TINY

SCORES = (0.2, 0.5, 0.3)  # of the three epochs, in place of what twelve pictures teach
SETTINGS = {
    "seed": 1, "train.epochs": 3, "train.val_split": "test", "train.warmup_steps": 2, "augment.stop_epochs": 1,
}  # fmt: skip


@dataclass
class Watched:
    """A training of three epochs of three updates, with what happened in it."""

    experiment: Any = None
    result: RunResult | None = None
    validated: list[tuple[str, dict[str, torch.Tensor]]] = field(default_factory=list)  # split, weights
    updates: list[tuple[int, list[float]]] = field(default_factory=list)  # step, shares of the peak rates
    sizes: list[tuple[int, int]] = field(default_factory=list)  # of the pictures of each update
    strong: list[bool] = field(default_factory=list)  # of each epoch's pictures


@pytest.fixture(scope="module")
def watched(tiny_data, tmp_path_factory) -> Watched:
    from detrofit.config.load import load_experiment, merge_dotted

    values = {"data": tiny_data, "runs": tmp_path_factory.mktemp("watched")}
    seen = Watched(load_experiment(merge_dotted(values, {**TINY, **SETTINGS})))

    def validate(model, index, *arguments, real=keeper.validate, **options):
        evaluation, predictions = real(model, index, *arguments, **options)
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        seen.validated.append((index.split, weights))
        score = SCORES[len(seen.validated) - 1]
        return replace(evaluation, summary={**evaluation.summary, "AP": score}), predictions

    def update(stepper, batches, step, several_sizes, real=Stepper.update):
        shares = [group["lr"] / group["peak_lr"] for group in stepper.optimizer.param_groups]
        seen.updates.append((step, shares))
        return real(stepper, batches, step, several_sizes)

    def on_device(stepper, batch, size, real=Stepper._on_device):
        images, targets = real(stepper, batch, size)
        seen.sizes.append(tuple(images.shape[-2:]))
        return images, targets

    def batches(loader, epoch, start_step=0, strong=True, real=TrainingLoader.batches):
        seen.strong.append(strong)
        return real(loader, epoch, start_step, strong)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keeper, "validate", validate)
        patch.setattr(Stepper, "update", update)
        patch.setattr(Stepper, "_on_device", on_device)
        patch.setattr(TrainingLoader, "batches", batches)
        seen.result = train(seen.experiment)
    return seen


def test_the_best_epoch_is_kept_and_not_the_last(watched):
    assert watched.result.best == 0.5
    kept = read_info(watched.result.folder / BEST).trained
    assert (kept["epochs"], kept["val_AP"]) == (2, 0.5)
    assert read_info(watched.result.folder / LAST).trained["epochs"] == 3


@pytest.mark.parametrize(("file", "epoch"), [(BEST, 2), (LAST, 3)])
def test_what_is_kept_is_what_was_validated(watched, file, epoch):
    """The averaged weights: those of the last update are other ones."""
    expected = watched.validated[epoch - 1][1]
    kept = load_model(watched.result.folder / file).state_dict()
    assert kept.keys() == expected.keys()
    assert not [name for name, tensor in expected.items() if not torch.equal(kept[name], tensor)]


def test_the_split_that_was_asked_for_chooses(watched):
    assert [split for split, _ in watched.validated] == ["test"] * 3


def test_every_update_has_its_learning_rate(watched):
    plan = make_plan(watched.experiment, 3, pretrained="nothing")
    assert [step for step, _ in watched.updates] == list(range(9))
    for step, shares in watched.updates:
        assert shares == pytest.approx([plan.lr_factor(step)] * len(shares)), f"update {step}"
    assert len({shares[0] for _, shares in watched.updates}) > 5, "else it would prove nothing"


def test_the_last_epochs_are_without_strong_changes(watched):
    assert watched.strong == [True, True, False]
    assert set(watched.sizes[:6]) == {(32, 32), (64, 64), (96, 96)} and set(watched.sizes[6:]) == {(64, 64)}
