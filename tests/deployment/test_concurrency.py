"""Threads that share one detector get the answers of one, whatever runs the file; and several files in one process."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from detrofit.runtime.detector import Detector
from detrofit.runtime.results import Detections

THREADS, ROUNDS = 4, 6


@pytest.fixture
def openvino_file(onnx_file: Path, tmp_path: Path) -> Path:
    pytest.importorskip("openvino", reason="openvino is not installed")
    from detrofit.deployment.openvino import write_openvino

    write_openvino(tmp_path / "model.xml", onnx_file)
    return tmp_path / "model.xml"


@pytest.mark.parametrize("kind", ["model_file", "onnx_file", "openvino_file"])
def test_four_threads_get_the_answers_of_one(kind: str, request: pytest.FixtureRequest) -> None:
    detector = Detector(request.getfixturevalue(kind), threshold=0, device="cpu")
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (70 + 9 * i, 100, 3), dtype=np.uint8) for i in range(THREADS)]
    alone = [detector(picture) for picture in pictures]
    assert len({tuple(found.scores.tolist()) for found in alone}) == THREADS, "else a mix-up would not be seen"
    together: list[list[Detections]] = [[] for _ in pictures]
    ready = threading.Barrier(THREADS)

    def ask(number: int) -> None:
        ready.wait(20)
        for _ in range(ROUNDS):
            together[number].append(detector(pictures[number]))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for expected, answers in zip(alone, together, strict=True):
        assert len(answers) == ROUNDS
        for found in answers:
            np.testing.assert_array_equal(found.boxes_xyxy, expected.boxes_xyxy)
            np.testing.assert_array_equal(found.scores, expected.scores)
            np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.skipif(not hasattr(signal, "SIGCHLD"), reason="there are no such signals here")
def test_a_process_outlives_two_openvino_files_and_a_child(openvino_file: Path) -> None:
    script = """
import signal, subprocess, sys
from pathlib import Path
from detrofit.runtime.detector import Detector
signal.signal(signal.SIGCHLD, lambda *_: None)
one, other = Detector(Path(sys.argv[1])), Detector(Path(sys.argv[1]))
del one, other  # the first opened goes first
subprocess.run([sys.executable, "-c", ""], check=True)
"""
    done = subprocess.run([sys.executable, "-c", script, str(openvino_file)], check=False)
    assert done.returncode == 0, "OpenVINO left a signal stack of freed memory behind"
