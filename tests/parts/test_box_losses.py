"""What every box loss part promises: range, equal boxes, symmetry, broadcasting, finite gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.parts.losses.ciou import CompleteIoULoss
from detrofit.parts.losses.diou import DistanceIoULoss
from detrofit.parts.losses.giou import GeneralizedIoULoss
from detrofit.parts.losses.nwd import NormalizedWassersteinDistance
from detrofit.parts.losses.shape_iou import ShapeIoULoss
from detrofit.parts.losses.shape_nwd import ShapeWassersteinDistance
from detrofit.parts.losses.siou import ScyllaIoULoss

# Loss, its upper bound, and whether it is symmetric in its boxes.
LOSSES = {
    "giou": (GeneralizedIoULoss(), 2, True),
    "diou": (DistanceIoULoss(), 2, True),
    "ciou": (CompleteIoULoss(), 3, True),
    "siou": (ScyllaIoULoss(), 3, True),
    "shape-iou": (ShapeIoULoss(), 4, True),
    "shape-iou scaled": (ShapeIoULoss(scale=1.5), 4, False),
    "nwd": (NormalizedWassersteinDistance(), 1, True),
    "shape-nwd paper": (ShapeWassersteinDistance(scale=0.5), 1, False),
    "shape-nwd mix": (ShapeWassersteinDistance(form="mix"), 4, True),
}
IMAGE_SIZE = (480, 640)
every_loss = pytest.mark.parametrize("name", LOSSES)

side = st.floats(0.003, 1)
centre = st.floats(0, 1)
box = st.tuples(centre, centre, side, side).map(torch.tensor)
some_boxes = st.lists(box, min_size=1, max_size=4).map(torch.stack)
degenerate_side = st.sampled_from([0.0, 1e-30, 1e-12, 1e-7, 1e-4, 0.1, 1.0])
degenerate_centre = st.sampled_from([0.0, 0.3, 0.3 + 1e-7, 0.4, 1.0])
degenerate_box = st.tuples(degenerate_centre, degenerate_centre, degenerate_side, degenerate_side).map(torch.tensor)


@every_loss
@settings(max_examples=40, deadline=None)
@given(predicted=box, target=box)
def test_in_its_range(name: str, predicted: torch.Tensor, target: torch.Tensor) -> None:
    loss, upper, _ = LOSSES[name]
    assert -1e-5 <= loss(predicted, target, IMAGE_SIZE).item() <= upper + 1e-5


@every_loss
@settings(max_examples=40, deadline=None)
@given(equal=box)
def test_zero_for_equal_boxes(name: str, equal: torch.Tensor) -> None:
    assert LOSSES[name][0](equal, equal, IMAGE_SIZE).item() == pytest.approx(0, abs=1e-4)


@every_loss
@settings(max_examples=40, deadline=None)
@given(predicted=box, target=box)
def test_symmetric_as_stated(name: str, predicted: torch.Tensor, target: torch.Tensor) -> None:
    loss, _, symmetric = LOSSES[name]
    if symmetric:
        torch.testing.assert_close(loss(predicted, target, IMAGE_SIZE), loss(target, predicted, IMAGE_SIZE))


@pytest.mark.parametrize("name", [name for name, (_, _, symmetric) in LOSSES.items() if not symmetric])
def test_weights_of_the_target_break_symmetry(name: str) -> None:
    wide, tall = torch.tensor([0.5, 0.5, 0.04, 0.01]), torch.tensor([0.52, 0.5, 0.02, 0.03])
    loss = LOSSES[name][0]
    assert loss(wide, tall, IMAGE_SIZE).item() != pytest.approx(loss(tall, wide, IMAGE_SIZE).item(), abs=1e-4)


@every_loss
@settings(max_examples=15, deadline=None)
@given(predicted=some_boxes, target=some_boxes)
def test_all_pairs_equal_one_by_one(name: str, predicted: torch.Tensor, target: torch.Tensor) -> None:
    loss = LOSSES[name][0]
    pairs = loss(predicted[:, None], target[None], IMAGE_SIZE)
    assert pairs.shape == (len(predicted), len(target))
    single = [[loss(one, other, IMAGE_SIZE) for other in target] for one in predicted]
    torch.testing.assert_close(pairs, torch.tensor(single), rtol=1e-4, atol=1e-5)


@every_loss
@settings(max_examples=80, deadline=None)
@given(predicted=degenerate_box, target=degenerate_box)
def test_finite_value_and_gradient_for_degenerate_boxes(
    name: str, predicted: torch.Tensor, target: torch.Tensor
) -> None:
    predicted = predicted.clone().requires_grad_()
    loss = LOSSES[name][0](predicted, target, IMAGE_SIZE)
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad is not None and predicted.grad.isfinite().all()


@every_loss
def test_half_precision_boxes_under_autocast_are_compared_in_full_precision(name: str) -> None:
    predicted, target = torch.tensor([0.5, 0.5, 0.02, 0.03]), torch.tensor([0.51, 0.5, 0.03, 0.02])
    loss = LOSSES[name][0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = loss(predicted.bfloat16(), target, IMAGE_SIZE)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, loss(predicted.bfloat16().float(), target, IMAGE_SIZE))


@every_loss
def test_distant_boxes_pull_the_prediction_towards_the_target(name: str) -> None:
    predicted = torch.tensor([0.2, 0.5, 0.1, 0.1], requires_grad=True)
    LOSSES[name][0](predicted, torch.tensor([0.4, 0.5, 0.1, 0.1]), IMAGE_SIZE).backward()
    assert predicted.grad is not None and predicted.grad[0] < 0


def test_distances_are_those_of_pixels() -> None:
    predicted, target = torch.tensor([0.5, 0.5, 0.1, 0.1]), torch.tensor([0.51, 0.52, 0.12, 0.1])
    nwd = NormalizedWassersteinDistance(constant=10.0)
    squared = 6.4**2 + 9.6**2 + 12.8**2 / 4
    assert nwd(predicted, target, IMAGE_SIZE).item() == pytest.approx(1 - math.exp(-math.sqrt(squared) / 10), abs=1e-5)


def test_complete_iou_matches_torchvision_on_a_square_image() -> None:
    from torchvision.ops import box_convert, complete_box_iou_loss, distance_box_iou_loss

    generator = torch.Generator().manual_seed(1)
    predicted, target = (0.05 + 0.4 * torch.rand(2, 50, 4, generator=generator)).unbind()
    corners = box_convert(predicted, "cxcywh", "xyxy"), box_convert(target, "cxcywh", "xyxy")
    ours = CompleteIoULoss()(predicted, target, (640, 640))
    torch.testing.assert_close(ours, complete_box_iou_loss(*corners), rtol=1e-4, atol=1e-5)
    ours = DistanceIoULoss()(predicted, target, (640, 640))
    torch.testing.assert_close(ours, distance_box_iou_loss(*corners), rtol=1e-4, atol=1e-5)


def test_scylla_iou_by_hand() -> None:
    # Offsets 30 and 40 of 20x20 boxes: sin of twice the angle is 0.96; the enclosing box is 50x60.
    predicted, target = torch.tensor([0.2, 0.2, 0.2, 0.2]), torch.tensor([0.5, 0.6, 0.2, 0.2])
    distance = 2 - math.exp(-1.04 * (30 / 50) ** 2) - math.exp(-1.04 * (40 / 60) ** 2)
    assert ScyllaIoULoss()(predicted, target, (100, 100)).item() == pytest.approx(1 + distance / 2, abs=1e-5)


def test_shape_nwd_is_nwd_without_shape_and_a_mean_in_the_mix() -> None:
    predicted, target = torch.tensor([0.5, 0.5, 0.1, 0.1]), torch.tensor([0.51, 0.52, 0.12, 0.1])
    boxes = predicted, target, IMAGE_SIZE
    nwd = NormalizedWassersteinDistance(constant=20.0)(*boxes)
    torch.testing.assert_close(ShapeWassersteinDistance(constant=20.0)(*boxes), nwd)
    mixed = ShapeWassersteinDistance(form="mix", constant=20.0, scale=1.0, ratio=0.3)(*boxes)
    torch.testing.assert_close(mixed, 0.3 * ShapeIoULoss(scale=1.0)(*boxes) + 0.7 * nwd)
