"""No file of the folder of original outputs goes unread."""

from __future__ import annotations

from pathlib import Path

import pytest

from .fixtures import FOLDER

TESTS = Path(__file__).parent
READ_BY_PATTERN = "ultralytics_rtdetr_"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no folder of original outputs; DETROFIT_FIXTURES names it")
def test_every_file_has_a_test() -> None:
    sources = "".join(file.read_text(encoding="utf-8") for file in TESTS.glob("test_*.py"))
    names = {file.stem for file in FOLDER.glob("*.json")}
    assert not [name for name in sorted(names) if f'"{name}"' not in sources and not name.startswith(READ_BY_PATTERN)]
