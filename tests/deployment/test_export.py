from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from detrofit.cli.app import main
from detrofit.data.demo import draw_demo_dataset
from detrofit.deployment import export as export_module
from detrofit.deployment import parity as parity_module
from detrofit.deployment import precisions
from detrofit.deployment.decoder_scope import MAP_PROJECTION
from detrofit.deployment.describe import describe
from detrofit.deployment.export import export_file
from detrofit.deployment.onnx import ExportOptions
from detrofit.deployment.parity import CheckPictures, ParityLimits
from detrofit.errors import DetrofitError
from detrofit.parts.layers import ConvNorm
from detrofit.runtime.detector import Detector
from tests.deployment.models import draw_pictures, write_model


@pytest.fixture(autouse=True)
def few_pictures_and_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "SECONDS", 0.0)
    monkeypatch.setattr(export_module, "drawn_pictures", lambda: CheckPictures("drawn", draw_pictures(2)))


@pytest.fixture
def labelled(tmp_path: Path) -> tuple[Path, Path]:
    """A data set of the demo's, and a model file for its classes."""
    data = draw_demo_dataset(tmp_path / "data", pictures={"train": 2, "val": 2}, size=(64, 96))
    return data, write_model(tmp_path, classes=("disc", "ring", "triangle", "square", "star"))


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


def test_a_deploy_form_that_is_wrong_is_noticed(
    model_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse = ConvNorm.fuse

    def wrongly(self: ConvNorm) -> None:
        fuse(self)
        self.conv.weight.data.mul_(1.2)

    monkeypatch.setattr(ConvNorm, "fuse", wrongly)
    with pytest.raises(DetrofitError, match="disagrees with its model"):
        export_file(model_file, out=tmp_path / "bad.onnx")


def test_weights_of_another_export_are_refused(model_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export_file(model_file, "openvino", out=tmp_path / "a.xml")
    record = json.loads((tmp_path / "a.xml.parity.json").read_text())
    assert record["machine"]["openvino"] and record["files"]["a.bin"] == describe(tmp_path / "a.xml")["weights"]
    weights = bytearray((tmp_path / "a.bin").read_bytes())
    weights[len(weights) // 2] ^= 1
    (tmp_path / "a.bin").write_bytes(weights)
    with pytest.raises(DetrofitError, match=r"a\.bin holds other weights than .*a\.xml was written with"):
        Detector(tmp_path / "a.xml")


@pytest.mark.parametrize("place", ["rtdetr-n", 'type="Convolution"', "shape="])
def test_an_xml_file_that_is_no_text_is_one_line(place: str, onnx_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from detrofit.deployment.openvino import write_openvino

    write_openvino(tmp_path / "a.xml", onnx_file)
    content = bytearray((tmp_path / "a.xml").read_bytes())
    content[content.index(place.encode()) + len(place) - 2] = 0xDD
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(DetrofitError) as caught:
        describe(tmp_path / "a.xml")
    assert "\n" not in str(caught.value)


def test_labelled_data_give_the_ap_of_both(labelled: tuple[Path, Path]) -> None:
    data, file = labelled
    record = export_file(file, data=data).parity
    assert (record.source, record.pictures) == ("val", 2)
    assert record.ap_torch is not None and record.ap_file == pytest.approx(record.ap_torch, abs=1e-3)
    assert record.ap_difference == pytest.approx((0, 0), abs=2e-3)


@pytest.mark.parametrize("name", ["onnx", pytest.param("openvino", marks=pytest.mark.slow)])
def test_int8_keeps_the_decoder_in_float_and_is_scored(name: str, labelled: tuple[Path, Path]) -> None:
    data, file = labelled
    exported = export_file(file, name, ExportOptions(precision="int8"), data=data)  # type: ignore[arg-type]
    facts = describe(exported.file)
    assert facts["precision"] == "int8" and exported.file.stem == "model.int8"
    assert facts["quantisation"]["split"] == "train" and facts["quantisation"]["pictures"] == 2
    assert exported.parity.ap_torch is not None and exported.parity.limits.matched_share is None
    assert exported.speed is not None and exported.speed.of_float32["int8"].median > 0
    if name == "onnx":
        nodes = onnx.load(exported.file).graph.node
        quantised = {node.input[0] for node in nodes if node.op_type == "DequantizeLinear"}
        assert quantised and not [each for each in quantised if each.startswith("/model/decoder/layer")]
    else:
        content = exported.file.read_text()
        quantised = set(re.findall(r'name="(/model/decoder/[^"]*)/fq_weights_1"', content))
        assert len(quantised) == 3 * (1 + 2), "of each map what cells are chosen by, and the values of each layer"
        assert all(MAP_PROJECTION.match(each) for each in quantised) and "nncf_smooth_quant/scale" not in content
    assert Detector(exported.file)(draw_pictures(1)[0]).class_names[0] == "disc"


def test_int8_past_the_allowed_drop_is_rejected(
    labelled: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, file = labelled
    scores = iter([0.5, 0.494])
    monkeypatch.setattr(parity_module, "_average_precision", lambda *_: next(scores))
    out = file.with_name("a.onnx")
    assert main(["export", str(file), "--int8", "--data", str(data), "--out", str(out)]) == 2
    assert "AP is 49.40 instead of 50.00 points on val (it may drop by 0.5)" in capsys.readouterr().err
    assert out.with_name("a.onnx.rejected").exists() and not out.exists()


def test_int8_needs_data_and_is_not_half(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(model_file), "--int8"]) == 2
    assert "give --data" in capsys.readouterr().err
    assert main(["export", str(model_file), "--int8", "--half"]) == 2
    assert "give --int8 or --half" in capsys.readouterr().err


def test_a_limit_that_nothing_is_past_is_refused(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for drop in ("nan", "inf"):
        assert main(["export", str(model_file), "--max-drop", drop]) == 2
        assert "--max-drop" in capsys.readouterr().err


def test_int8_needs_something_to_calibrate_and_to_score_on(
    labelled: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, file = labelled
    for each in (data.parent / "images" / "train").iterdir():
        each.unlink()
    assert main(["export", str(file), "--int8", "--data", str(data)]) == 2
    assert "no pictures" in capsys.readouterr().err
    for each in (data.parent / "labels" / "val").iterdir():
        each.write_text("")
    assert main(["export", str(file), "--int8", "--data", str(data)]) == 2
    assert "the split 'val' has no objects" in capsys.readouterr().err


def test_a_model_that_is_not_there_leaves_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(tmp_path / "runs" / "typo.safetensors")]) == 2
    assert "typo" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_half_onnx_computes_in_float16_outside_the_decoder(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "half.onnx"
    exported = export_file(model_file, "onnx", ExportOptions(precision="half"), out=out)
    model = onnx.load(out)
    weights = {each.name: each.data_type for each in model.graph.initializer if each.name.startswith("model.")}
    for name, kind in weights.items():
        expected = onnx.TensorProto.FLOAT if name.startswith("model.decoder") else onnx.TensorProto.FLOAT16
        assert kind == expected, name
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert exported.parity.largest_score_difference < 0.05 and describe(out)["precision"] == "half"


def test_half_openvino_stores_16_bits_and_runs_in_half_precision_where_there_is_one(
    model_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed")
    from detrofit.runtime.openvino_backend import OpenVinoBackend, half_precision

    whole, half = (
        export_file(model_file, "openvino", ExportOptions(precision=precision), out=tmp_path / f"{precision}.xml")
        for precision in ("float32", "half")
    )
    assert half.file.with_suffix(".bin").stat().st_size < 0.6 * whole.file.with_suffix(".bin").stat().st_size
    backend = OpenVinoBackend(half.file)
    assert backend.precision == (half_precision() or "f32") and backend.device == "cpu"
    assert (half.speed is None) == (half_precision() is None), "in float32 nothing is there to compare"


def test_a_good_export_clears_away_an_earlier_rejected_one(model_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.onnx"
    with pytest.raises(DetrofitError):
        export_file(model_file, out=out, limits=ParityLimits(box=-1.0))
    export_file(model_file, out=out)
    assert {each.name for each in tmp_path.iterdir()} == {"again.onnx", "again.onnx.parity.json"}


def test_commands(onnx_file: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["info", str(onnx_file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == ["cat", "dog", "owl"]
    assert main(["info", str(onnx_file.with_suffix(".safetensors"))]) == 0
    assert "category ids" in capsys.readouterr().out
    for file in (onnx_file, onnx_file.with_suffix(".safetensors")):
        facts = describe(file)
        assert facts["input_size"] in ([64, 96], (64, 96)) and facts["resize"] == "stretch"
        assert facts["threshold"] == 0.3 and list(facts["mean"]) == [0, 0, 0] and facts["detrofit"]
    assert main(["formats"]) == 0
    assert "not run by us" in capsys.readouterr().out
    for opset in ("0", "15"):
        assert main(["export", str(onnx_file.with_suffix(".safetensors")), "--opset", opset]) == 2
        assert f"opset {opset} is not proven" in capsys.readouterr().err
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
