"""Box losses against the original functions on fixed boxes."""

from __future__ import annotations

import pytest
import torch

from detrofit.parts.boxes import xyxy_to_cxcywh
from detrofit.parts.losses.nwd import NormalizedWassersteinDistance
from detrofit.parts.losses.shape_iou import ShapeIoULoss

from .fixtures import Case, cases

UNIT = (1, 1)  # the boxes are already in the unit of their constants


@pytest.mark.parametrize("case", cases("shape_iou"))
def test_shape_iou(case: Case) -> None:
    predicted = case.inputs["pred"].requires_grad_()
    options = {name: case.args[name] for name in ("scale", "eps") if name in case.args}
    loss = ShapeIoULoss(**options)(predicted, case.inputs["gt"], UNIT)
    case.assert_close(1 - loss, "siou")
    loss.sum().backward()
    assert predicted.grad is not None
    case.assert_close(predicted.grad, "grad_pred")


@pytest.mark.parametrize("case", cases("nwd"))
def test_normalized_wasserstein_distance(case: Case) -> None:
    predicted, target = case.inputs["pred"].requires_grad_(), xyxy_to_cxcywh(case.inputs["gt"])
    loss = NormalizedWassersteinDistance(**case.args)(xyxy_to_cxcywh(predicted), target, UNIT)
    case.assert_close(loss, "loss")
    loss.sum().backward()
    assert predicted.grad is not None
    case.assert_close(predicted.grad, "grad_pred")


@pytest.mark.parametrize("case", cases("nwd"))
def test_normalized_wasserstein_distance_of_all_pairs(case: Case) -> None:
    predicted, target = xyxy_to_cxcywh(case.inputs["pred"]), xyxy_to_cxcywh(case.inputs["gt"])
    options = {"constant": case.args["constant"]} if "constant" in case.args else {}
    nwd = NormalizedWassersteinDistance(**options, eps=1e-6)
    with torch.no_grad():
        case.assert_close(1 - nwd(predicted[:, None], target[None], UNIT), "pairwise")
