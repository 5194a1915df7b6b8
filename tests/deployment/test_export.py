from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from detrofit.cli.app import main
from detrofit.data.demo import draw_demo_dataset
from detrofit.deployment import export as export_module
from detrofit.deployment.export import export_file
from detrofit.deployment.parity import CheckPictures, ParityLimits
from detrofit.errors import DetrofitError
from detrofit.runtime.detector import Detector
from tests.deployment.models import draw_pictures, write_model


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "drawn_pictures", lambda: CheckPictures("drawn", draw_pictures(2)))


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_an_export_answers_like_its_model_and_has_a_record(name: str, model_file: Path, tmp_path: Path) -> None:
    if name == "openvino":
        pytest.importorskip("openvino")
    suffix = {"onnx": ".onnx", "openvino": ".xml"}[name]
    out = tmp_path / f"shipped{suffix}"
    exported = export_file(model_file, name, out=out)  # type: ignore[arg-type]
    record = json.loads((tmp_path / f"shipped{suffix}.parity.json").read_text())
    assert exported.file == out and record["passed"] and record["matched_share"] == 1.0
    pictures = draw_pictures(3)
    for expected, found in zip(Detector(model_file)(pictures), Detector(out)(pictures, batch=2)):
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=0.05)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        assert (found.labels == expected.labels).all()
    files = {each.name for each in tmp_path.iterdir()}
    assert files - {"shipped.bin"} == {out.name, f"{out.name}.parity.json"}


def test_a_file_past_the_limits_is_rejected(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "bad.onnx"
    with pytest.raises(DetrofitError, match=r"disagrees with its model: .*bad\.onnx\.rejected"):
        export_file(model_file, out=out, limits=ParityLimits(box=-1.0))
    assert {each.name for each in tmp_path.iterdir()} == {"bad.onnx.rejected", "bad.onnx.rejected.parity.json"}


def test_labelled_data_give_the_ap_of_both(tmp_path: Path) -> None:
    data = draw_demo_dataset(tmp_path / "data", pictures={"train": 1, "val": 2}, size=(64, 96))
    file = write_model(tmp_path, classes=("disc", "ring", "triangle", "square", "star"))
    record = export_file(file, data=data).parity
    assert (record.source, record.pictures) == ("val", 2)
    assert record.ap_torch is not None and record.ap_file == pytest.approx(record.ap_torch, abs=1e-3)


def test_commands(onnx_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", str(onnx_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["cat", "dog", "owl"]
    assert main(["info", str(onnx_file.with_suffix(".safetensors"))]) == 0
    assert "category ids" in capsys.readouterr().out
    assert main(["formats"]) == 0
    assert "not run by us" in capsys.readouterr().out
    assert main(["export", str(onnx_file.with_suffix(".safetensors")), "--batch", "many"]) == 2
    assert "--batch takes a number" in capsys.readouterr().err
    assert main(["info", str(tmp_path / "none.onnx")]) == 2


def test_a_missing_extra_is_one_line(
    model_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("detrofit.deployment.onnx", "detrofit.deployment.export"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["export", str(model_file)]) == 2
    assert capsys.readouterr().err.strip() == (
        "error: this needs 'onnx', which is not installed: pip install \"detrofit[export]\""
    )
