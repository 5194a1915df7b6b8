"""Box formats, intersection over union and its terms, broadcasting over leading dimensions."""

from __future__ import annotations

from torch import Tensor, stack

SMALLEST_AREA = 1e-12  # of a union or an enclosing box, so that degenerate boxes divide by something
SMALLEST_SIDE = 1e-30  # of a box whose sides are compared as logarithms, so that those of one without a side are finite


def full_precision(values: Tensor) -> Tensor:
    """The values in at least float32: areas of small boxes and their differences are lost in half precision."""
    return values if values.element_size() >= 4 else values.float()


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Corners (left, top, right, bottom) `[..., 4]` of boxes (centre x, centre y, width, height), in their unit."""
    return stack(corners(boxes), dim=-1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Boxes (centre x, centre y, width, height) `[..., 4]` of corners (left, top, right, bottom), in their unit."""
    left, top, right, bottom = boxes.unbind(-1)
    return stack(((left + right) / 2, (top + bottom) / 2, right - left, bottom - top), dim=-1)


def to_pixels(boxes: Tensor, image_size: tuple[float, float]) -> Tensor:
    """Boxes cxcywh `[..., 4]` in 0..1 scaled to pixels of an image of size (height, width), in at least float32."""
    height, width = image_size
    boxes = full_precision(boxes)
    return boxes * boxes.new_tensor((width, height, width, height))


def corners(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Left, top, right and bottom of boxes cxcywh, each `[...]`."""
    centre_x, centre_y, width, height = boxes.unbind(-1)
    half_width, half_height = width / 2, height / 2
    return centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height


def intersection_and_union(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of the intersection and of the union of boxes cxcywh, each of the broadcast leading dimensions.

    Computed in at least float32. Equal boxes have exactly equal areas of both.
    """
    left, top, right, bottom = corners(full_precision(predicted))
    target_left, target_top, target_right, target_bottom = corners(full_precision(target))
    width = (right.minimum(target_right) - left.maximum(target_left)).clamp(min=0)
    height = (bottom.minimum(target_bottom) - top.maximum(target_top)).clamp(min=0)
    intersection = width * height
    area = (right - left) * (bottom - top)
    target_area = (target_right - target_left) * (target_bottom - target_top)
    return intersection, area + target_area - intersection


def box_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """Intersection over union, 0..1, of boxes cxcywh `[..., 4]`; 0 where both are of zero area."""
    intersection, union = intersection_and_union(predicted, target)
    return intersection / union.clamp(min=SMALLEST_AREA)


def enclosing_size(predicted: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box that encloses both boxes cxcywh, each of the broadcast dimensions."""
    left, top, right, bottom = corners(full_precision(predicted))
    target_left, target_top, target_right, target_bottom = corners(full_precision(target))
    width = right.maximum(target_right) - left.minimum(target_left)
    return width, bottom.maximum(target_bottom) - top.minimum(target_top)


def generalized_iou(predicted: Tensor, target: Tensor) -> Tensor:
    """IoU minus the share of the enclosing box that neither covers, -1..1, of boxes cxcywh (arXiv:1902.09630)."""
    intersection, union = intersection_and_union(predicted, target)
    width, height = enclosing_size(predicted, target)
    enclosing = (width * height).clamp(min=SMALLEST_AREA)
    return intersection / union.clamp(min=SMALLEST_AREA) - (enclosing - union) / enclosing


def centre_distance_ratio(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared distance of the centres over the squared diagonal of the smallest enclosing box, 0..1."""
    width, height = enclosing_size(predicted, target)
    distance = (full_precision(predicted)[..., :2] - full_precision(target)[..., :2]).square().sum(-1)
    return distance / (width.square() + height.square()).clamp(min=SMALLEST_AREA)


def relative_difference(length: Tensor, other: Tensor) -> Tensor:
    """Difference of two lengths over the larger one, 0..1, broadcasting; 0 where both are 0."""
    return (length - other).abs() / length.maximum(other).clamp(min=1e-6)


def shape_weights(boxes: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Shape-IoU's weights 2 w^s / (w^s + h^s) and 2 h^s / (w^s + h^s) of boxes cxcywh, 0..2 (arXiv:2312.17663)."""
    width, height = boxes[..., 2].clamp(min=SMALLEST_SIDE), boxes[..., 3].clamp(min=SMALLEST_SIDE)
    # The quotient as a sigmoid of logarithms doesn't overflow, whatever the exponent is.
    weight_width = 2 * (scale * (width.log() - height.log())).sigmoid()
    return weight_width, 2 - weight_width


def squared_wasserstein(
    predicted: Tensor, target: Tensor, weight_width: Tensor | float = 1.0, weight_height: Tensor | float = 1.0
) -> Tensor:
    """Squared Wasserstein distance of boxes cxcywh as Gaussians, in the square of their unit (arXiv:2110.13389).

    `weight_height` weighs the offset in x and `weight_width` that in y, as Shape-IoU has it.
    """
    x, y, width, height = (predicted - target).square().unbind(-1)
    return weight_height * x + weight_width * y + (width + height) / 4
