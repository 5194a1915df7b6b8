from __future__ import annotations

import shutil
from itertools import islice

import pytest
import torch

from detrofit import DetrofitError
from detrofit.distillation.features import Capture, FeatureCache, Lessons, OwnInputs, cache_for
from tests.distillation.tiny_models import images, tiny_model

NAMES = ["backbone.stage3.block0", "backbone.stage3.block1", "encoder.fusion", "backbone.stage4.block0.conv1"]


@pytest.fixture(scope="module")
def teacher():
    return tiny_model()


def lessons(teacher, calls=None, **options) -> Lessons:
    def batches(start):
        number = start
        while True:
            if calls is not None:
                calls.append(number)
            yield images(number), [{"boxes": torch.tensor([[0.5, 0.5, 0.5, 0.5]])} for _ in range(4)]
            number += 1

    return Lessons(Capture(teacher, NAMES), batches, **options)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return (one is None and other is None) or (len(one) == len(other) and all(map(same, one, other)))


def test_what_is_recorded_is_what_the_modules_saw(teacher):
    pairs = Capture(teacher, NAMES)(images(0))
    for name in NAMES[:2]:
        (given,), output = pairs[name]
        assert given.dtype == output.dtype == torch.float16
        with torch.no_grad():
            expected = teacher.get_submodule(name)(given.float())
        assert torch.allclose(expected, output.float(), atol=0.02), name
    # The output of conv1 is recorded before the activation after it, which works in place.
    assert (pairs["backbone.stage4.block0.conv1"].output < 0).any()
    assert pairs[NAMES[0]].output is pairs[NAMES[1]].inputs[0], "one copy of what two modules see"
    assert [tuple(level.shape) for level in pairs["encoder.fusion"].output] == [(4, 32, n, n) for n in (8, 4, 2)]


def test_own_inputs_are_the_students_and_the_outputs_the_teachers(teacher):
    student = tiny_model(seed=1)
    own = OwnInputs(teacher, student, NAMES[:2])(images(0))
    taught, seen = (Capture(model, NAMES[:2])(images(0)) for model in (teacher, student))
    for name in NAMES[:2]:
        assert torch.equal(own[name].output, taught[name].output)
        assert torch.equal(own[name].inputs[0], seen[name].inputs[0])
        assert not torch.equal(own[name].inputs[0], taught[name].inputs[0])


def test_a_cache_gives_the_same_lessons_and_computes_none_twice(teacher, tmp_path):
    streamed = list(islice(lessons(teacher, inside=2.0).from_number(0), 4))
    calls: list[int] = []
    kept = lessons(teacher, calls, inside=2.0, cache=FeatureCache(tmp_path / "with spaces"))
    for _ in range(2):
        for one, other in zip(streamed, kept.from_number(0)):
            assert one.pairs.keys() == other.pairs.keys()
            assert all(same(one.pairs[name], other.pairs[name]) for name in NAMES)
            assert same(one.weights, other.weights)
    assert calls[:4] == [0, 1, 2, 3] and set(calls[4:]) <= {4}
    # From the middle, and with a damaged file, which is made again.
    file = sorted((tmp_path / "with spaces").iterdir())[2]
    file.write_bytes(file.read_bytes()[:100])
    assert same(next(kept.from_number(2)).pairs["encoder.fusion"], streamed[2].pairs["encoder.fusion"])


def test_a_cache_keeps_the_memory_format_so_that_what_learns_rounds_alike(tmp_path):
    model = tiny_model().to(memory_format=torch.channels_last)
    (name,) = names = ["encoder.fusion"]

    def batches(start):
        while True:
            yield images(start).contiguous(memory_format=torch.channels_last), []
            start += 1

    kept = Lessons(Capture(model, names), batches, cache=FeatureCache(tmp_path))
    streamed, read = (next(kept.from_number(0)).pairs[name] for _ in range(2))
    formats = [[level.stride() for level in pair.output] for pair in (streamed, read)]
    assert formats[0] == formats[1] and not streamed.output[0].is_contiguous()


def test_what_is_over_the_limit_is_streamed(teacher, tmp_path):
    source = lessons(teacher)
    assert cache_for(source, 100, tmp_path / "cache", limit=1000) is None
    assert not (tmp_path / "cache").exists()
    assert isinstance(cache_for(source, 100, tmp_path / "cache", limit=1e9), FeatureCache)


def test_a_disk_too_small_for_the_cache_is_one_line(teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 5, 5))
    with pytest.raises(DetrofitError, match=r"need 0\.\d\d GB in .*, where 0\.00 GB are free; .*--cache 0"):
        cache_for(lessons(teacher), 5000, tmp_path / "cache", limit=1e12)
