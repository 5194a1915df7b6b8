"""A detector of a fake model, for all tests of the server."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.runtime import backends
from detrofit.runtime.detector import Detector

pytest.importorskip("fastapi", reason="fastapi is not installed")


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """Finds `dark` or `light` with scores 0.9, 0.6 and 0.05; its own threshold is 0.5."""
    monkeypatch.setitem(backends.BACKENDS, ".fake", "tests.runtime.fake_backend:FakeBackend")
    file = tmp_path / "best.fake"
    file.touch()
    return Detector(file)


def encoded(size: tuple[int, int] = (40, 30), form: str = "PNG", colour: str = "white") -> bytes:
    """A picture of `size` (width, height) as the bytes of a file."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, form)
    return stream.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
