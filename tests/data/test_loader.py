from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from detrofit.data.index import DetectionIndex
from detrofit.data.loader import Batch, EvaluationLoader, TrainingLoader, single_threaded
from detrofit.data.transforms import Augmentation
from detrofit.errors import DetrofitError
from tests.data.small_index import drawn_index

SIZE = (64, 96)
EVERYTHING = Augmentation(mosaic=0.3, mixup=0.3, vertical_flip=0.5)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> DetectionIndex:
    return drawn_index(tmp_path_factory.mktemp("a data set"), 10)


def fingerprints(batches: Iterable[Batch]) -> list[tuple[int, str]]:
    """The position and a digest of every bit of every picture and its target, in order."""
    found = []
    for images, targets in batches:
        for image, target in zip(images, targets, strict=True):
            digest = hashlib.sha256(image.numpy().tobytes())
            digest.update(target["boxes"].numpy().tobytes() + target["labels"].numpy().tobytes())
            found.append((target["image_index"], digest.hexdigest()))
    return found


def epoch(index: DetectionIndex, batch_size: int = 4, **options: object) -> list[tuple[int, str]]:
    loader = TrainingLoader(index, SIZE, batch_size, seed=3, augmentation=EVERYTHING, **{"workers": 0, **options})
    return fingerprints(loader.batches(epoch=1))


def test_a_batch_has_the_documented_form(index: DetectionIndex) -> None:
    images, targets = next(TrainingLoader(index, SIZE, 4, seed=0, workers=0).batches(0))
    assert images.dtype == torch.uint8 and images.shape == (4, 3, *SIZE)
    for target in targets:
        assert target["labels"].dtype == torch.int64 and target["boxes"].shape == (len(target["labels"]), 4)
        assert target["boxes"].dtype == torch.float32 and (target["boxes"] >= 0).all() and (target["boxes"] <= 1).all()
        assert target["size"] == (90, 120) and 0 <= target["image_index"] < 10


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than this machine has cores
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_worker_count_changes_no_picture(index: DetectionIndex, workers: int) -> None:
    assert epoch(index, workers=workers) == epoch(index)


def test_spawned_workers_make_the_same_pictures(index: DetectionIndex) -> None:
    assert epoch(index, workers=1, start_method="spawn") == epoch(index)


def test_process_count_and_batch_size_change_no_picture(index: DetectionIndex) -> None:
    alone = epoch(index, batch_size=2)
    shared = [epoch(index, batch_size=2, num_replicas=2, rank=rank) for rank in range(2)]
    assert sorted(shared[0] + shared[1]) == sorted(alone)
    assert epoch(index, batch_size=5) == alone


def test_threads_and_the_global_generators_change_no_picture(index: DetectionIndex) -> None:
    expected = epoch(index)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        torch.manual_seed(99)
        assert epoch(index) == expected
        assert torch.get_num_threads() == threads + 1
    finally:
        torch.set_num_threads(threads)


def test_an_interrupted_epoch_continues_with_the_pictures_it_would_have_had(index: DetectionIndex) -> None:
    loader = TrainingLoader(index, SIZE, 2, seed=0, workers=2)
    first = loader.batches(0)
    next(first)
    first.close()
    resumed = TrainingLoader(index, SIZE, 2, seed=0, workers=0)
    assert fingerprints(loader.batches(4, start_step=2)) == fingerprints(resumed.batches(4))[4:]


def test_epochs_show_other_pictures_and_the_last_ones_plain_ones(index: DetectionIndex) -> None:
    loader = TrainingLoader(index, SIZE, 5, seed=0, augmentation=Augmentation(horizontal_flip=0), workers=0)
    first, second = dict(fingerprints(loader.batches(0))), dict(fingerprints(loader.batches(1)))
    assert all(first[image] != second[image] for image in range(10))
    plain = dict(fingerprints(loader.batches(2, strong=False)))
    assert plain == dict(fingerprints(EvaluationLoader(index, SIZE, 4, workers=0)))


def test_a_picture_drawn_twice_in_an_epoch_is_augmented_twice(index: DetectionIndex) -> None:
    found = fingerprints(TrainingLoader(index, SIZE, 20, seed=0, workers=0).batches(0))
    assert len(found) == 20 and len(set(found)) == 20


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_shows_each_picture_once_over_all_processes(index: DetectionIndex, workers: int) -> None:
    loaders = [EvaluationLoader(index, SIZE, 2, workers=workers, num_replicas=3, rank=rank) for rank in range(3)]
    found = [fingerprints(loader) for loader in loaders]
    assert [len(loader) for loader in loaders] == [2, 2, 2]
    assert sorted(itertools.chain(*found)) == fingerprints(EvaluationLoader(index, SIZE, 10, workers=0))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_one_line_that_names_it(tmp_path: Path, workers: int) -> None:
    index = drawn_index(tmp_path, 3)
    (tmp_path / "scene 1.jpg").write_bytes(b"no picture")
    for batches in (
        TrainingLoader(index, SIZE, 3, seed=0, workers=workers).batches(0),
        EvaluationLoader(index, SIZE, 3, workers=workers),
    ):
        with pytest.raises(DetrofitError, match=r"scene 1.jpg is not a picture") as raised:
            list(batches)
        assert "\n" not in str(raised.value)


HELD_AT_EXIT = """
import pickle, signal, sys
from detrofit.data.loader import EvaluationLoader
held = EvaluationLoader(pickle.loads(bytes.fromhex(sys.argv[1])), (64, 64), 2, workers=2)
batches = iter(held)
next(batches), next(batches)  # one of each worker: both are up
print("ready", flush=True)
if "group" in sys.argv:
    signal.sigwait({signal.SIGUSR1})
print(len(list(batches)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the sender of a signal is not told")
@pytest.mark.parametrize("group", [False, True])
def test_workers_outlast_a_sigterm_to_the_group_and_end_with_the_process(index: DetectionIndex, group: bool) -> None:
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); "
    block += "signal.signal(signal.SIGTERM, lambda *_: None)\n"
    command = [sys.executable, "-c", block + HELD_AT_EXIT, pickle.dumps(index).hex(), *["group"] * group]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        if group:
            os.killpg(process.pid, signal.SIGTERM)
            time.sleep(0.5)  # a worker would have ended by now
            process.send_signal(signal.SIGUSR1)
        assert process.communicate(timeout=30)[0] == f"{-(-len(index) // 2) - 2}\n"
        assert process.returncode == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_torch_keeps_its_threads_after_an_error() -> None:
    threads = torch.get_num_threads()
    with contextlib.suppress(ZeroDivisionError), single_threaded():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == threads
