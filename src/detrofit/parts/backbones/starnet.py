"""`starnet`: StarNet, a network of element-wise products (arXiv:2403.19967)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from detrofit.parts.backbones.timm import TimmBackbone
from detrofit.parts.layers import DropPathRate
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE

Size = Annotated[Literal["s1", "s2", "s3", "s4"], Field(description="which of the published networks")]


@part(
    "starnet",
    fits=[BACKBONE],
    paper="arXiv:2403.19967",
    licence="Apache-2.0 (timm, which this part uses, and the original)",
)
class StarNet(TimmBackbone):
    """StarNet: blocks that multiply two linear projections of the map, between 7x7 depthwise convolutions.

    A block is x + depthwise(norm(narrow(ReLU6(f1(u)) x f2(u)))) with u = norm(depthwise(x)).

    [B,3,H,W] to a list of maps for each of `strides` (of 4, 8, 16, 32). The block alone is the part `star`.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32),
        *,
        size: Size = "s1",
        drop_path: DropPathRate = 0.0,
    ) -> None:
        super().__init__(strides, name=f"starnet_{size}", drop_path=drop_path)
