"""Box formats and their terms."""

from __future__ import annotations

import torch
from torchvision import ops

from detrofit.parts import boxes


def random_boxes(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(*shape, 2, generator=generator)
    return torch.cat([centre, 0.01 + 0.5 * torch.rand(*shape, 2, generator=generator)], dim=-1)


def test_formats_are_inverse_and_agree_with_torchvision() -> None:
    cxcywh = random_boxes(3, 7)
    xyxy = boxes.cxcywh_to_xyxy(cxcywh)
    torch.testing.assert_close(xyxy, ops.box_convert(cxcywh, "cxcywh", "xyxy"))
    torch.testing.assert_close(boxes.xyxy_to_cxcywh(xyxy), cxcywh)


def test_iou_and_generalized_iou_agree_with_torchvision_on_all_pairs() -> None:
    ours, theirs = random_boxes(20), random_boxes(40)[20:]
    corners, other_corners = boxes.cxcywh_to_xyxy(ours), boxes.cxcywh_to_xyxy(theirs)
    pairs = ours[:, None], theirs[None]
    torch.testing.assert_close(boxes.box_iou(*pairs), ops.box_iou(corners, other_corners))
    torch.testing.assert_close(boxes.generalized_iou(*pairs), ops.generalized_box_iou(corners, other_corners))


def test_half_precision_boxes_are_compared_in_full_precision() -> None:
    pair = random_boxes(2, 5).half()
    assert boxes.box_iou(pair[0], pair[1]).dtype == torch.float32


def test_pixels_scale_x_by_width_and_y_by_height() -> None:
    scaled = boxes.to_pixels(torch.tensor([0.5, 0.5, 0.25, 0.5]), (320, 640))
    assert scaled.tolist() == [320, 160, 160, 160]
