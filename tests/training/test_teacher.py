from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from detrofit import DetrofitError, build
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.distillation.teacher import Teacher
from detrofit.training.loop import resume, train
from detrofit.training.run_folder import LAST, METRICS
from detrofit.training.step import Stepper
from tests.training.conftest import TINY
from tests.training.test_step import batch, halves, make_stepper  # noqa: F401


@pytest.fixture(scope="module")
def teacher():
    """Other parts, more queries, fewer layers than the student."""
    model = build(
        "rtdetr-n",
        {"backbone.stage4.block": "extradw"},
        num_classes=5,
        settings={"num_queries": 30, "decoder_layers": 1},
        seed=1,
    )
    model.decoder.score_head["layer0"].bias.data += 3.0
    return Teacher(model, range(5))


def test_accumulated_batches_learn_what_one_batch_does(tmp_path, batch, teacher):  # noqa: F811
    whole, parts = make_stepper(tmp_path), make_stepper(tmp_path)
    whole.teacher = parts.teacher = teacher
    losses = whole.update([batch], 0, several_sizes=False)
    assert {"loss_teacher_class", "loss_teacher_l1", "loss_teacher_box"} < set(losses)
    assert parts.update(halves(batch), 0, several_sizes=False) == pytest.approx(losses, rel=1e-4)
    for (name, one), other in zip(whole.model.named_parameters(), parts.model.parameters()):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)


def test_the_ordinary_losses_stay_as_they_are(tmp_path, batch, teacher):  # noqa: F811
    alone, taught = make_stepper(tmp_path), make_stepper(tmp_path)
    taught.teacher, taught.teacher_weight = teacher, 0.5
    expected = alone.update([batch], 0, several_sizes=False)
    losses = taught.update([batch], 0, several_sizes=False)
    lesson = sum(value for name, value in losses.items() if name.startswith("loss_teacher"))
    assert {name: losses[name] for name in expected if name != "loss"} == pytest.approx(
        {name: value for name, value in expected.items() if name != "loss"}, rel=1e-6
    )
    assert losses["loss"] == pytest.approx(expected["loss"] + lesson, rel=1e-5) and lesson > 0
    whole = make_stepper(tmp_path)
    whole.teacher = teacher
    full = whole.update([batch], 0, several_sizes=False)
    weighted = {name: 2 * value for name, value in losses.items() if name.startswith("loss_teacher")}
    assert {name: full[name] for name in weighted} == pytest.approx(weighted, rel=1e-5), "a weight of 0.5 halves them"


@pytest.fixture(scope="module")
def taught(tiny_data, tmp_path_factory):
    """The settings of a student of one decoder layer, whose teacher has other parts, in bf16."""
    folder = tmp_path_factory.mktemp("taught")
    common = {**TINY, "train.save_every": 1, "train.epochs": 1, "retrofit": {"backbone.stage4.block": "extradw"}}
    teacher = train(load_experiment(merge_dotted({"data": tiny_data, "runs": folder, "name": "teacher"}, common)))
    return {
        "train.teacher": teacher.folder,
        "train.save_every": 1,
        "model.decoder_layers": 1,
        "train.precision": "bf16",
    }


def test_a_taught_run_that_is_interrupted_goes_on_to_the_same_weights(tiny, taught, monkeypatch):
    straight = train(tiny(**taught, name="straight")).folder
    metrics = [json.loads(line) for line in (straight / METRICS).read_text().splitlines()]
    assert len(metrics) == 2 and all(row["loss_teacher_class"] > 0 for row in metrics)

    def interrupt(self, batches, step, several_sizes, real=Stepper.update):
        if step == 4:
            raise KeyboardInterrupt
        return real(self, batches, step, several_sizes)

    interrupted = tiny(**taught, name="interrupted")
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "update", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(interrupted)
    resumed = resume(interrupted.runs / "interrupted").folder
    assert (resumed / METRICS).read_text() == (straight / METRICS).read_text()
    ours, theirs = load_file(resumed / LAST), load_file(straight / LAST)
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())

    monkeypatch.setattr("detrofit.training.prepare.file_digest", lambda file: "of another file")
    with pytest.raises(DetrofitError, match="another file than when the training began"):
        resume(resumed)
