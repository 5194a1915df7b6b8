from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime import backends
from detrofit.runtime.detector import Detector

DARK, LIGHT = np.zeros((40, 80, 3), np.uint8), np.full((20, 10, 3), 255, np.uint8)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(backends.BACKENDS, ".fake", "tests.runtime.fake_backend:FakeBackend")
    monkeypatch.setitem(backends.BACKENDS, ".missing", "tests.runtime.fake_backend:NeedsMissingModule")
    (tmp_path / "other.missing").touch()
    file = tmp_path / "best.fake"
    file.touch()
    return file


def test_boxes_come_in_pixels_of_the_original_best_first_and_inside(model: Path) -> None:
    found = Detector(model)(DARK)
    assert found.scores.tolist() == pytest.approx([0.9, 0.6])
    np.testing.assert_allclose(found.boxes_xyxy, [[20, 20, 60, 40], [0, 20, 80, 24]], atol=1e-5)
    assert found.names == ["dark", "dark"] and found.size == (40, 80)
    assert found.boxes_xyxy.dtype == found.scores.dtype == np.float32 and found.labels.dtype == np.int64


def test_one_picture_gives_one_result_and_several_a_list(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "some pictures"
    folder.mkdir()
    Image.fromarray(LIGHT).save(folder / "b.png")
    Image.fromarray(DARK).save(folder / "a.png")
    detector = Detector(model)
    assert detector(folder / "a.png").names[0] == "dark"
    assert [each.names[0] for each in detector(str(folder))] == ["dark", "light"]
    assert [each.source for each in detector(folder)] == [str(folder / "a.png"), str(folder / "b.png")]
    assert len(detector([LIGHT])) == 1, "a list of one picture is still a list"


def test_a_batch_gives_what_single_pictures_give(model: Path) -> None:
    detector = Detector(model)
    pictures = [DARK, LIGHT, DARK, LIGHT, LIGHT]
    together, alone = list(detector.stream(pictures, batch=2)), [detector(each) for each in pictures]
    assert detector.backend.batch_sizes[:3] == [2, 2, 1]  # type: ignore[attr-defined]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one.boxes_xyxy, other.boxes_xyxy)
        assert one.names == other.names


def test_the_threshold_is_the_files_own_unless_given(model: Path) -> None:
    assert len(Detector(model)(DARK)) == 2
    assert len(Detector(model, threshold=0.7)(DARK)) == 1
    assert len(Detector(model, threshold=0)(DARK)) == 3
    with pytest.raises(DetrofitError, match="threshold is 50"):
        Detector(model, threshold=50)


def test_no_more_than_the_allowed_detections(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Detector(model, threshold=0)
    monkeypatch.setattr(detector.backend, "max_detections", 1)
    assert detector(DARK).scores.tolist() == pytest.approx([0.9])


def test_device_and_plugins_reach_the_backend(model: Path) -> None:
    detector = Detector(model, device="cpu", plugins=("my_part.py",))
    assert detector.backend.opened == (model, "cpu", (Path("my_part.py"),))  # type: ignore[attr-defined]


def test_a_wrong_model_file_is_one_clear_line(model: Path) -> None:
    folder = model.parent
    for file, message in {
        folder / "bst.fake": "did you mean 'best.fake'",
        folder: "is a folder; give a model file, as in .*best.fake",
        Path(__file__): "known are .safetensors",
        folder / "absent" / "model.fake": "no model file at",
        folder / "other.missing": r"pip install \"detrofit\[train\]\"",
    }.items():
        with pytest.raises(DetrofitError, match=message) as caught:
            Detector(file)
        assert "\n" not in str(caught.value)


def test_a_bad_source_is_known_before_anything_runs(model: Path) -> None:
    detector = Detector(model)
    with pytest.raises(DetrofitError, match="no file or folder"):
        detector.stream("absent.jpg")
    with pytest.raises(DetrofitError, match="batch is 0"):
        detector.stream(DARK, batch=0)
    with pytest.raises(DetrofitError, match="every is -1"):
        detector.stream(DARK, every=-1)


def test_neither_the_runtime_nor_the_server_imports_torch_or_another_room() -> None:
    code = """
import importlib, pkgutil, sys
for room in ("detrofit.runtime", "detrofit.server"):
    for module in pkgutil.iter_modules(importlib.import_module(room).__path__, room + "."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            assert not error.name.startswith("detrofit"), error
rooms = "parts model config data weights evaluation training distillation deployment comparison cli pages".split()
print([name for name in sys.modules if name.startswith(("torch", *("detrofit." + room for room in rooms)))])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
