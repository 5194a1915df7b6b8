"""Numbers of the original implementations: every case of a fixture file as a pytest parameter.

The folder is named by the environment variable DETROFIT_FIXTURES (default ../shared/fixtures beside the repository).
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterable
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


@dataclass(frozen=True)
class Case:
    """One case of a fixture file; its tensors are read when they are first asked for."""

    fixture: str
    id: str
    record: dict[str, Any]

    @property
    def args(self) -> dict[str, Any]:
        """Arguments of the original constructor."""
        return self.record["args"]

    @property
    def setup(self) -> dict[str, Any]:
        """Shapes and other values that the original was run with."""
        return self.record.get("setup", {})

    @property
    def tolerance(self) -> dict[str, Any]:
        """`atol` and `rtol` of a comparison with `outputs`."""
        return self.record["tolerance"]

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

    def assert_close(self, actual: Tensor, name: str) -> None:
        """Fail unless `actual` equals the output `name` within the case's tolerance."""
        where = f"{self.fixture}/{self.id}: {name}: "
        torch.testing.assert_close(actual, self.outputs[name], **self.tolerance, msg=lambda text: where + text)

    def _group(self, group: str) -> dict[str, Tensor]:
        prefix = f"{self.id}/{group}/"
        with safe_open(FOLDER / f"{self.fixture}.safetensors", "pt") as tensors:
            names = [name for name in list(tensors.keys()) if name.startswith(prefix)]
            return {name.removeprefix(prefix): tensors.get_tensor(name) for name in names}


def cases(name: str) -> list[Any]:
    """A pytest parameter for each case of the fixture `name`, or a skipped one where there is no such file."""
    path = FOLDER / f"{name}.json"
    if not path.exists():
        reason = f"no {name}.json in the folder of original outputs; DETROFIT_FIXTURES names it"
        return [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
    records = json.loads(path.read_text(encoding="utf-8"))["cases"]
    return [pytest.param(Case(name, record["id"], record), id=record["id"]) for record in records]


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


def renamed(state: dict[str, Tensor], names: Iterable[tuple[str, str | None]]) -> dict[str, Tensor]:
    """The state under our names, from pairs (original name, ours); None leaves an entry out."""
    return {ours: state[original] for original, ours in names if ours is not None}
