"""The ONNX backend on a graph made by hand, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from detrofit.runtime.exported import best_detections
from detrofit.runtime.onnx_backend import OnnxBackend, read_description
from tests.runtime.onnx_by_hand import describe, write_onnx_by_hand


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_onnx_by_hand(tmp_path / "model.onnx", describe().model_dump_json())


def test_the_detector_runs_it_and_fills_the_last_batch(file: Path) -> None:
    detector = Detector(file, device="cpu")
    pictures = [np.full((100, 200, 3), value, np.uint8) for value in (255, 128, 204)]
    found = detector(pictures, batch=3)
    assert [round(float(each.scores[0]), 2) for each in found] == [1.0, 0.5, 0.8]
    assert found[0].boxes_xyxy.tolist() == [[50, 25, 150, 75]]
    assert found[0].names == ["light"] and detector.category_ids == (4, 2) and detector.threshold == 0.25


def test_torch_is_not_needed(file: Path) -> None:
    script = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from detrofit import Detector\n"
        f"print(Detector({str(file)!r})(np.full((40, 40, 3), 255, np.uint8)).names)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "['light']", result.stderr


def test_files_of_others_and_damaged_ones_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match="no description"):
        OnnxBackend(write_onnx_by_hand(tmp_path / "foreign.onnx", None))
    with pytest.raises(DetrofitError, match="class_names"):
        OnnxBackend(write_onnx_by_hand(tmp_path / "old.onnx", '{"detrofit": "9", "name": "x"}'))
    garbled = write_onnx_by_hand(tmp_path / "garbled.onnx", describe().model_dump_json())
    garbled.write_bytes(garbled.read_bytes().replace(b"by-hand", b"by\xffhand"))
    with pytest.raises(DetrofitError, match="what it says about itself is no text"):
        OnnxBackend(garbled)
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"\x08\x08nothing")
    with pytest.raises(DetrofitError, match="cannot be opened") as caught:
        Detector(damaged)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"category_ids": (4,)}, "1 category ids for 2 names"),
        ({"threshold": 7.0}, "threshold: Input should be less than or equal to 1"),
        ({"input_size": (0, 64)}, "input_size.0: Input should be greater than 0"),
        ({"input_size": (64, 64)}, "its graph takes or gives other things than it says"),
        ({"batch": None}, "its graph takes or gives other things than it says"),
        ({"outputs": "raw"}, "its graph takes or gives other things than it says"),
    ],
)
def test_a_description_that_cannot_be_true_is_one_line(changes: dict[str, object], words: str, tmp_path: Path) -> None:
    content = {**describe().model_dump(), **changes}
    with pytest.raises(DetrofitError, match=words):
        OnnxBackend(write_onnx_by_hand(tmp_path / "changed.onnx", json.dumps(content)))


def test_a_device_that_is_not_there_is_one_line(file: Path) -> None:
    with pytest.raises(DetrofitError, match="cpu or cuda"):
        OnnxBackend(file, "tpu")


def test_cuda_that_is_built_in_and_cannot_be_used_is_one_line(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = onnxruntime.get_available_providers()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", *here])
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *given, providers: real(*given, providers=here))
    with pytest.raises(DetrofitError, match="was built with CUDA and cannot use it here"):
        OnnxBackend(file, "cuda")
    assert OnnxBackend(file).device == "cpu", "nobody asked for it"


def test_the_description_survives_the_file(file: Path) -> None:
    assert read_description(file) == describe()


def test_best_detections_of_raw_outputs() -> None:
    logits = np.array([[[0.0, 3.0], [2.0, -9.0], [-9.0, -900.0]]], np.float32)
    boxes = np.array([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.2, 0.2, 0.2], [0, 0, 0, 0]]], np.float32)
    with np.errstate(over="raise"):
        corners, scores, labels = best_detections(logits, boxes, 3)
    assert labels.tolist() == [[1, 0, 0]]
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([[-3.0, -2.0, 0.0]])), rtol=1e-6)
    np.testing.assert_allclose(corners[0], [[0.4, 0.3, 0.6, 0.7], [0, 0.1, 0.2, 0.3], [0.4, 0.3, 0.6, 0.7]], atol=1e-6)
