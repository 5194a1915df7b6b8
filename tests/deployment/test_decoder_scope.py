from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from detrofit.deployment.decoder_scope import Operation, decoder_operations, onnx_operations, openvino_operations
from detrofit.errors import DetrofitError


def test_what_reads_from_the_decoder_belongs_to_it_and_shared_constants_do_not() -> None:
    operations = [
        Operation("/model/decoder/Constant", (), ("shared",)),
        Operation("/model/backbone/Conv", ("images", "shared"), ("map",)),
        Operation("/model/decoder/MatMul", ("map", "weight"), ("query",)),
        Operation("made by a converter", ("query", "shared"), ("moved",)),
        Operation("/TopK", ("moved",), ("scores",)),
    ]
    assert decoder_operations(operations, "images") == ["/model/decoder/MatMul", "made by a converter", "/TopK"]


def test_a_graph_without_the_decoders_name_is_refused() -> None:
    with pytest.raises(DetrofitError, match="cannot be kept in float"):
        decoder_operations([Operation("Conv_0", ("images",), ("map",))], "images")


def test_in_both_formats_the_decoder_is_found_and_nothing_of_backbone_and_encoder(onnx_file: Path) -> None:
    openvino = pytest.importorskip("openvino")
    converted = openvino.convert_model(onnx_file)
    for found in (
        decoder_operations(onnx_operations(onnx.load(onnx_file).graph), "images"),
        decoder_operations(openvino_operations(converted), "images"),
    ):
        assert not [name for name in found if name.startswith(("/model/backbone", "/model/encoder"))]
        assert any("query_selection" in name for name in found)
        assert len([name for name in found if "GridSample" in name]) == 6, "two layers read three levels each"
