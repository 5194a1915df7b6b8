"""What the folder of original outputs holds: every file is read by a test, or skipped by its name."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
from safetensors import safe_open

from .fixtures import FOLDER

TESTS = Path(__file__).parent
SUFFIXES = (".json", ".safetensors", ".xz")
FILES = sorted(file.name for file in FOLDER.glob("*") if file.suffix in SUFFIXES)
ABSENT = [
    pytest.param(None, marks=pytest.mark.skip(reason="no folder of original outputs; DETROFIT_FIXTURES names it"))
]


def patterns_read() -> list[str]:
    """The patterns of file names, without suffixes, that the tests beside this one ask for."""
    sources = "".join(file.read_text(encoding="utf-8") for file in TESTS.glob("test_*.py"))
    return re.findall(r'(?:cases|glob)\("([\w*]+)(?:\.json|\.pt\.xz)?"\)', sources)


@pytest.mark.parametrize("name", FILES or ABSENT)
def test_every_file_has_a_test(name: str) -> None:
    stem = name.split(".")[0]
    if not any(fnmatch(stem, pattern) for pattern in patterns_read()):
        pytest.skip(f"no test reads {name}: no part here comes from that original")
    if not name.endswith(".json"):
        return
    content = json.loads((FOLDER / name).read_text("utf-8"))
    assert "cases" in content or "state" in content
    with safe_open(FOLDER / f"{stem}.safetensors", "pt") as tensors:
        groups = {key.rsplit("/", 1)[0] for key in list(tensors.keys())}
    missing = [record["id"] for record in content.get("cases", []) if f"{record['id']}/out" not in groups]
    assert not missing, f"{name} names cases without outputs"


def test_patterns_are_found() -> None:
    assert {"pconv", "uib_*", "ultralytics_rtdetr_*_proc"} <= set(patterns_read())
