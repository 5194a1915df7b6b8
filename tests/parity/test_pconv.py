"""Partial convolution against FasterNet's."""

from __future__ import annotations

import pytest

from detrofit.parts.blocks.pconv import PartialConv

from .fixtures import Case, cases
from .naming import load, run


@pytest.mark.parametrize("case", cases("pconv"))
def test_output(case: Case) -> None:
    module = PartialConv(case.args["dim"], divisor=case.args["n_div"])
    case.assert_close(run(load(module, case.state, {"partial_conv3": "conv"}), case.inputs["x"]), "y")
