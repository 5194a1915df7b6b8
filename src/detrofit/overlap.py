"""Overlap of boxes as arrays; numpy alone."""

from __future__ import annotations

import numpy as np

SMALLEST_AREA = 1e-9  # of a union, so that boxes without area divide by something


def box_iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """IoU `[...]`, 0..1, of boxes xyxy `[...,4]` with others in the same unit; leading dimensions broadcast."""
    shared = shared_area(boxes, others)
    return shared / np.maximum(box_area(boxes) + box_area(others) - shared, SMALLEST_AREA)


def shared_area(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The area `[...]` that boxes xyxy `[...,4]` share with others; leading dimensions broadcast."""
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    return (high - low).clip(min=0).prod(-1)


def box_area(boxes: np.ndarray) -> np.ndarray:
    """The area `[...]` of boxes xyxy `[...,4]`."""
    return (boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(-1)
