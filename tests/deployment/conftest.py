"""A model file and its exports, made once for all tests of the room."""

from __future__ import annotations

from pathlib import Path

import pytest

from detrofit.deployment.onnx import ExportOptions, write_onnx
from detrofit.weights.model_file import load_model, read_info
from tests.deployment.models import write_model


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def onnx_file(model_file: Path) -> Path:
    file = model_file.with_suffix(".onnx")
    write_onnx(file, load_model(model_file), read_info(model_file), ExportOptions())
    return file
