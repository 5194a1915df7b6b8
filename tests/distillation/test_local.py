from __future__ import annotations

import itertools

import pytest
import torch

from detrofit import DetrofitError
from detrofit.distillation.features import Capture, Lessons
from detrofit.distillation.local import LocalSettings, LocalTraining, Trainee
from detrofit.distillation.swap import put_trained, with_swaps
from tests.distillation.tiny_models import images, swap, tiny_model

PLACE = "backbone.stage3.block1"
VD = {"part": "extradw", "expand": 2.0, "at": {"shortcut": "vd"}}


@pytest.fixture(scope="module")
def teacher():
    return tiny_model()


def lessons(teacher, places=(PLACE,)):
    def batches(start):
        number = start
        while True:
            yield images(number % 10, 12), []
            number += 1

    return Lessons(Capture(teacher, places), batches).from_number


def trainee(teacher, choice, key="one", seed=0) -> Trainee:
    student = with_swaps(teacher, swap(PLACE, choice), seed=seed)
    return Trainee(key, PLACE, student.get_submodule(PLACE))


def test_an_interruption_keeps_every_step(teacher, tmp_path):
    settings = LocalSettings(steps=8)

    def broken_off(start):
        yield from itertools.islice(lessons(teacher)(start), 3)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LocalTraining([trainee(teacher, VD)], settings).run(broken_off, tmp_path / "state.pt")
    again = LocalTraining([trainee(teacher, VD)], settings)
    assert again.restore(tmp_path / "state.pt") and again.step == 3


def test_an_update_that_is_broken_off_is_not_kept(teacher, tmp_path, monkeypatch):
    def break_off(self, trainee, loss, real=LocalTraining._note):
        real(self, trainee, loss)
        if self.step == 2 and trainee.key == "two":
            raise KeyboardInterrupt

    monkeypatch.setattr(LocalTraining, "_note", break_off)
    training = LocalTraining([trainee(teacher, VD), trainee(teacher, "star", "two")], LocalSettings(steps=8))
    with pytest.raises(KeyboardInterrupt):
        training.run(lessons(teacher), tmp_path / "state.pt")
    assert not (tmp_path / "state.pt").exists(), "of the third update one part has made its own and the other has not"


def test_a_part_that_can_be_the_identity_becomes_it(teacher):
    """An empty slot passes its input; a part with a skip of its own can do so exactly, and nearly does."""
    place = "backbone.stage3.block1.insert"
    student = with_swaps(teacher, swap("backbone.stage3.insert", {"part": "extradw", "expand": 1, "residual": True}))
    training = LocalTraining([Trainee("same", place, student.get_submodule(place))], LocalSettings(steps=80, lr=0.04))
    source = lessons(teacher, (place,))(0)
    training.learn(next(source))
    first = training.trainees[0].error
    training.run(lambda step: source)
    assert first > 0.5 and training.trainees[0].error < 1e-3


def test_other_parts_learn_too_each_as_if_it_were_alone(teacher):
    settings = LocalSettings(steps=25, lr=5e-3)
    together = LocalTraining([trainee(teacher, VD), trainee(teacher, "star", "two")], settings)
    together.run(lessons(teacher))
    alone = LocalTraining([trainee(teacher, VD)], settings)
    alone.run(lessons(teacher))
    one, other = together.trainees[0], alone.trainees[0]
    assert one.error == other.error < 0.9
    state = other.module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.module.state_dict().items())


def test_a_trained_part_fits_into_the_model_again(teacher):
    student = with_swaps(teacher, swap(PLACE, VD))
    trained = trainee(teacher, VD, seed=3).module.state_dict()
    put_trained(student, {PLACE: trained})
    assert all(torch.equal(student.get_submodule(PLACE).state_dict()[name], trained[name]) for name in trained)


def test_stopped_and_resumed_is_bit_for_bit_the_same(teacher, tmp_path):
    drop = {**VD, "drop_path": 0.5}  # draws, too, must come again
    settings = LocalSettings(steps=12, save_every=5)
    straight = LocalTraining([trainee(teacher, drop)], settings, seed=3)
    straight.run(lessons(teacher))

    class Stopped(Exception):
        pass

    def stop_after_eight(training):
        def advance():
            if training.step == 8:
                raise Stopped

        return advance

    file = tmp_path / "state.pt"
    first = LocalTraining([trainee(teacher, drop)], settings, seed=3)
    with pytest.raises(Stopped):
        first.run(lessons(teacher), file, stop_after_eight(first))
    second = LocalTraining([trainee(teacher, drop, seed=9)], settings, seed=3)
    assert second.restore(file) and second.step == 5
    second.run(lessons(teacher), file)
    assert second.trainees[0].error == straight.trainees[0].error
    state = straight.trainees[0].module.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in second.trainees[0].module.state_dict().items())

    other = LocalTraining([trainee(teacher, drop, "another")], settings, seed=3)
    assert not other.restore(file), "a state of other parts is not taken"
    file.write_bytes(b"half a state")
    with pytest.raises(DetrofitError, match="damaged or of other parts; remove it"):
        second.restore(file)


def test_a_part_that_diverges_is_left_alone_and_the_others_go_on(teacher):
    broken = trainee(teacher, VD, "broken")
    with torch.no_grad():
        broken.module.block.expand.conv.weight.fill_(float("nan"))
    training = LocalTraining([broken, trainee(teacher, VD, "sound")], LocalSettings(steps=5))
    training.run(lessons(teacher))
    assert training.trainees[0].diverged and not training.trainees[1].diverged


def test_a_part_without_numbers_is_only_measured(teacher):
    class Empty(torch.nn.Module):
        def forward(self, x):
            return x

    training = LocalTraining([Trainee("none", PLACE, Empty())], LocalSettings(steps=2))
    training.run(lessons(teacher))
    assert 0 < training.trainees[0].error < 10
