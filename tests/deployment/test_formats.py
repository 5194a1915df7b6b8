from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from detrofit.cli.app import main
from detrofit.deployment.export import LIMITS, SUFFIXES
from detrofit.deployment.formats import FORMATS

ROOT = Path(__file__).parents[2]


def test_all_that_export_writes_is_proven_and_its_evidence_exists() -> None:
    proven = {(each.suffix, each.precision) for each in FORMATS if each.tier == "proven"}
    assert proven >= {(suffix, precision) for suffix in SUFFIXES.values() for precision in LIMITS}
    for each in FORMATS:
        for file in re.findall(r"tests/[\w/]+(?:\.py)?", each.evidence):
            assert (ROOT / file).exists(), file


def test_every_recipe_stands_in_the_docs_and_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    for each in FORMATS:
        if each.tier == "not run by us":
            assert re.search(rf"\*\*{each.name}\*\* \(not run by us\)", page), each.name
    assert main(["formats"]) == 0
    assert "not run by us" in capsys.readouterr().out
    assert main(["formats", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(FORMATS)
