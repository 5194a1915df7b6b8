"""What comes out of a slot: its map as a picture, and how far it sees."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.model.places import modules_at

SHARE = 0.5  # of all contribution, whose square is the size of a receptive field


@dataclass(frozen=True)
class ReceptiveField:
    """What the middle cell of a slot's output reads of the picture (arXiv:1701.04128).

    Attributes:
        contribution: `[H,W]`, the mean over pictures of the gradient's size at each pixel, which sums to 1.
        centre: y and x in pixels of the middle of that cell.
        side: of the smallest square of pixels around the centre that holds half of it, in pixels.
        side95: of the one that holds 95 %.
    """

    contribution: np.ndarray
    centre: tuple[float, float]
    side: float
    side95: float


def slot_output(model: RTDETR, address: str, images: Tensor) -> Tensor:
    """The map `[B,C,h,w]` that comes out at a slot's address, e.g. `encoder.downsample`, or of a module by its name.

    Of several places with one address, and of a list of maps, the last is taken. Raises DetrofitError where the model
    has nothing there, or no map comes out.
    """
    module = model.get_submodule(modules_at(model, address, "explain")[-1])
    seen: list[Any] = []
    hook = module.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        model(images)
    finally:
        hook.remove()
    output = seen[-1] if seen else None
    while isinstance(output, (list, tuple)) and output:
        output = output[-1]
    if not isinstance(output, Tensor) or output.ndim != 4:
        raise DetrofitError(f"no map comes out at '{address}'; give a stage, a block, or encoder.fusion")
    return output


@torch.no_grad()
def feature_map(model: RTDETR, address: str, image: Tensor) -> np.ndarray:
    """How strongly each cell of a slot's output is excited by a picture `[3,H,W]`: `[h,w]` in 0..1.

    The root mean square over channels, stretched between its smallest and its largest value.
    """
    output = slot_output(model, address, image[None])[0].float()
    strength = output.square().mean(0).sqrt().cpu().numpy()
    return (strength - strength.min()) / max(float(strength.max() - strength.min()), 1e-12)


def receptive_field(
    model: RTDETR, address: str, images: Sequence[Tensor], advance: Callable[[int], None] = lambda done: None
) -> ReceptiveField:
    """How far a slot's output sees in an eval-mode model, measured on pictures float32 `[3,H,W]` of one size.

    The size of the gradient of the middle cell's channels with respect to the picture, each picture counting alike.
    `advance` is told how many pictures are done.
    """
    if not images:
        raise DetrofitError("a receptive field is measured on pictures; give one or more")
    total = np.zeros(images[0].shape[1:])
    for image in images:
        given = image[None].clone().requires_grad_(True)
        with torch.enable_grad():
            output = slot_output(model, address, given)
            middle = output[0, :, output.shape[2] // 2, output.shape[3] // 2].float()
            # Rectified cells give no gradient where they are silent; their size does wherever anything is read.
            (gradient,) = torch.autograd.grad(middle.abs().sum(), given)
        contribution = gradient[0].abs().sum(0).detach().float().cpu().numpy()
        total += contribution / max(float(contribution.sum()), 1e-30)
        advance(1)
    total /= max(float(total.sum()), 1e-30)
    centre = _centre(output.shape, total.shape)
    return ReceptiveField(total, centre, square_side(total, SHARE, centre), square_side(total, 0.95, centre))


def square_side(contribution: np.ndarray, share: float, centre: tuple[float, float] | None = None) -> float:
    """The side, in pixels, of the smallest square around `centre` (y, x) that holds a share of the sum of `[H,W]`."""
    height, width = contribution.shape
    y, x = centre or ((height - 1) / 2, (width - 1) / 2)
    distance = np.maximum(np.abs(np.arange(height) - y)[:, None], np.abs(np.arange(width) - x)[None])
    order = np.argsort(distance, axis=None, kind="stable")
    held = np.cumsum(contribution.ravel()[order])
    if held[-1] <= 0:
        return 0.0
    reached = min(int(np.searchsorted(held, share * held[-1])), len(held) - 1)
    return float(2 * distance.ravel()[order[reached]] + 1)


def _centre(output: torch.Size, size: tuple[int, ...]) -> tuple[float, float]:
    """The pixel (y, x) at the middle of the map's middle cell."""
    y, x = ((cells // 2 + 0.5) * side / cells - 0.5 for cells, side in zip(output[-2:], size))
    return y, x
