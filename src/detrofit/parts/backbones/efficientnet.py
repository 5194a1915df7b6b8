"""`efficientnet`: EfficientNet and its lite form (arXiv:1905.11946)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from detrofit.parts.backbones.timm import TimmBackbone
from detrofit.parts.layers import DropPathRate
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE

Size = Annotated[
    Literal["b0", "b1", "b2", "b3", "b4", "b5", "b6", "b7", "lite0", "lite1", "lite2", "lite3", "lite4"],
    Field(description="which of the published networks"),
]


@part(
    "efficientnet",
    fits=[BACKBONE],
    paper="arXiv:1905.11946",
    licence="Apache-2.0 (timm, which this part uses, and the original weights)",
)
class EfficientNet(TimmBackbone):
    """EfficientNet: inverted bottlenecks with squeeze and excitation, scaled in depth, width and resolution together.

    A block is x + project(gate(depthwise(expand(x)))), each convolution with norm, the first two with SiLU, the gate
    squeeze and excitation; without the sum where the shape changes.

    [B,3,H,W] to a list of maps for each of `strides` (of 4, 8, 16, 32). These are timm's `tf_efficientnet_*`, the
    original networks ('same' padding, norm eps 1e-3), for which pretrained weights of every size exist; the lite form
    has ReLU6 and no squeeze and excitation. timm's own variants are `timm:efficientnet_b0` and so on.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32),
        *,
        size: Size = "b0",
        drop_path: DropPathRate = 0.0,
    ) -> None:
        super().__init__(strides, name=f"tf_efficientnet_{size}", drop_path=drop_path)
