"""Partial convolution against FasterNet's."""

from __future__ import annotations

import pytest

from detrofit.parts.blocks.pconv import PartialConv

from .fixtures import Case, cases
from .naming import load, run, skip_other_arguments


@pytest.mark.parametrize("case", cases("pconv"))
def test_output(case: Case) -> None:
    skip_other_arguments(case.args, ("dim", "n_div", "forward"))  # both ways forward give the same
    module = PartialConv(case.args["dim"], divisor=case.args.get("n_div", 4))
    case.assert_close(run(load(module, case.state, {"partial_conv3": "conv"}), case.inputs["x"]), "y")
