"""Box losses against the original functions on fixed boxes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detrofit.parts.boxes import xyxy_to_cxcywh
from detrofit.parts.losses.nwd import NormalizedWassersteinDistance
from detrofit.parts.losses.shape_iou import ShapeIoULoss

from .fixtures import Case, cases
from .naming import skip_other_arguments

UNIT = (1, 1)  # the boxes are already in the unit of their constants


@pytest.mark.parametrize("case", cases("shape_iou"))
def test_shape_iou(case: Case) -> None:
    # The original takes centre form, whatever xywh says.
    options = _options(case.args, ("scale", "eps"), "xywh")
    predicted = case.inputs["pred"].requires_grad_()
    loss = ShapeIoULoss(**options)(predicted, case.inputs["gt"], UNIT)
    _assert_close_to_numbers(case, 1 - loss, "siou")
    _check_gradient(case, loss, predicted)


@pytest.mark.parametrize("case", cases("nwd"))
def test_normalized_wasserstein_distance(case: Case) -> None:
    options = _options(case.args, ("eps", "mode", "gamma", "constant"))
    predicted, target = case.inputs["pred"].requires_grad_(), xyxy_to_cxcywh(case.inputs["gt"])
    loss = NormalizedWassersteinDistance(**options)(xyxy_to_cxcywh(predicted), target, UNIT)
    _assert_close_to_numbers(case, loss, "loss")
    _check_gradient(case, loss, predicted)


@pytest.mark.parametrize("case", cases("nwd"))
def test_normalized_wasserstein_distance_of_all_pairs(case: Case) -> None:
    predicted, target = xyxy_to_cxcywh(case.inputs["pred"]), xyxy_to_cxcywh(case.inputs["gt"])
    options = {"constant": case.args["constant"]} if "constant" in case.args else {}
    nwd = NormalizedWassersteinDistance(**options, eps=1e-6)
    with torch.no_grad():
        case.assert_close(1 - nwd(predicted[:, None], target[None], UNIT), "pairwise")


def _options(args: dict[str, Any], known: tuple[str, ...], *unread: str) -> dict[str, Any]:
    """Those of the original's arguments that are ours; others make the case one to skip."""
    skip_other_arguments(args, (*known, *unread), reduction="none", loss_weight=1.0)
    return {name: args[name] for name in known if name in args}


def _assert_close_to_numbers(case: Case, actual: Tensor, name: str) -> None:
    """Equal where the original gives a number; where it divides nothing by nothing, ours must still give one."""
    assert actual.isfinite().all()
    expected = case.outputs[name].view_as(actual)
    case.assert_close(torch.where(expected.isnan(), expected, actual).view_as(case.outputs[name]), name, equal_nan=True)


def _check_gradient(case: Case, loss: Tensor, predicted: Tensor) -> None:
    loss.sum().backward()
    assert predicted.grad is not None
    _assert_close_to_numbers(case, predicted.grad, "grad_pred")
