"""Numbers of the original implementations: every case of a fixture file as a pytest parameter.

The folder is named by the environment variable DETROFIT_FIXTURES (default ../shared/fixtures beside the repository).
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("DETROFIT_FIXTURES", REPOSITORY.parent / "shared" / "fixtures"))
TOLERANCE = {"atol": 1e-5, "rtol": 1e-4}  # where a case names none


@dataclass(frozen=True)
class Case:
    """One case of a fixture file; its tensors are read when they are first asked for."""

    fixture: str
    id: str
    record: dict[str, Any]

    @property
    def args(self) -> dict[str, Any]:
        """Arguments of the original constructor."""
        return self.record.get("args", {})

    @property
    def setup(self) -> dict[str, Any]:
        """Shapes and other values that the original was run with."""
        return self.record.get("setup", {})

    @property
    def tolerance(self) -> dict[str, float]:
        """`atol` and `rtol` of a comparison with `outputs`."""
        given = self.record.get("tolerance", {})
        return {name: given.get(name, value) for name, value in TOLERANCE.items()}

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The weights by their original names, generated for a case that stores none."""
        if "state_procedural" in self.record:
            return procedural().fill_state(self.record["state_procedural"], self.setup["_salt"])
        return self._group("state")

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        return self._group("in")

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        return self._group("out")

    def assert_close(self, actual: Tensor, name: str, *, equal_nan: bool = False) -> None:
        """Fail unless `actual` equals the output `name` within the case's tolerance."""
        where = f"{self.fixture}/{self.id}: {name}: "
        if name not in self.outputs:
            pytest.fail(f"{where}the file has no such output; it has {sorted(self.outputs)}")
        torch.testing.assert_close(
            actual, self.outputs[name], **self.tolerance, equal_nan=equal_nan, msg=lambda text: where + text
        )

    def _group(self, group: str) -> dict[str, Tensor]:
        prefix = f"{self.id}/{group}/"
        with safe_open(FOLDER / f"{self.fixture}.safetensors", "pt") as tensors:
            names = [name for name in list(tensors.keys()) if name.startswith(prefix)]
            return {name.removeprefix(prefix): tensors.get_tensor(name) for name in names}


def cases(pattern: str) -> list[Any]:
    """A pytest parameter for each case of the fixtures whose names fit the shell pattern, or a skipped one for none."""
    files = sorted(FOLDER.glob(f"{pattern}.json"))
    found = [(file.stem, record) for file in files for record in json.loads(file.read_text("utf-8")).get("cases", [])]
    if not found:
        reason = f"no case of {pattern}.json in the folder of original outputs; DETROFIT_FIXTURES names it"
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
    return [
        pytest.param(Case(name, record["id"], record), id=record["id"] if name == pattern else f"{name}-{record['id']}")
        for name, record in found
    ]


@cache
def procedural() -> ModuleType:
    """The generator of weights and inputs that are not stored (`fill_state`, `tensor`), from the fixtures' folder."""
    spec = importlib.util.spec_from_file_location("fixtures_procedural", FOLDER / "procedural.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows_by_index(values: Tensor, index: Tensor) -> Tensor:
    """Rows `[B,Q,...]` in ascending order of `index` `[B,Q]`: near-ties of a top-k may come in another order."""
    order = index.argsort(dim=1)
    return torch.stack([rows[row_order] for rows, row_order in zip(values, order)])


def renamed(state: dict[str, Tensor], ours: Callable[[str], str | None], *computed: str) -> dict[str, Tensor]:
    """The state under our names, which `ours` gives for the originals'; None for one that must be among `computed`.

    `computed` are the ends of the names of constants, which ours compute instead of keeping them.
    """
    found = {name: ours(name) for name in state}
    unknown = [name for name, place in found.items() if place is None and not name.endswith(computed)]
    assert not unknown, f"no place for the original weight {unknown[0]}"
    return {place: state[name] for name, place in found.items() if place is not None}
