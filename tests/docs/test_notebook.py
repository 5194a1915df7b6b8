"""The notebook on adding a part, run on the CPU as a hosted service runs it, with fewer pictures."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from .test_add_a_part import FILES, PART_FILE

FILE = Path(__file__).parents[2] / "docs" / "add_a_part.ipynb"
SMALL = 'EPOCHS = 1\nPICTURES = {"train": 8, "val": 2, "test": 2}'


def tagged(cell: nbformat.NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(FILE, as_version=4)


def test_it_holds_no_outputs_and_the_part_of_the_tutorial(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    cells = {cell.id: cell for cell in notebook.cells}
    assert not any(cell.get("outputs") for cell in notebook.cells)
    assert cells["file"].source == f"%%writefile {PART_FILE}\n" + FILES[PART_FILE].rstrip("\n")


@pytest.mark.slow
def test_it_runs(notebook: nbformat.NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    notebook.cells = [cell for cell in notebook.cells if not tagged(cell, "install")]
    for cell in notebook.cells:
        if tagged(cell, "parameters"):
            cell.source = SMALL
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = {
        cell.id: "".join(output.get("text", "") for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert "checks passed" in printed["check"]
    for run in ("stock", "train"):
        assert "best validation AP" in printed[run], printed[run]
    for cell in notebook.cells:
        if cell.id in ("curves", "plot"):
            assert "image/png" in cell.outputs[0].data
