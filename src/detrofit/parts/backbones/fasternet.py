"""`fasternet`: FasterNet, a network of partial convolutions (arXiv:2303.03667)."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from detrofit.parts.backbones.timm import TimmBackbone
from detrofit.parts.layers import DropPathRate
from detrofit.parts.registry import part
from detrofit.parts.slots import BACKBONE

Size = Annotated[Literal["t0", "t1", "t2", "s", "m", "l"], Field(description="which of the published networks")]


@part(
    "fasternet",
    fits=[BACKBONE],
    paper="arXiv:2303.03667",
    licence="Apache-2.0 (timm, which this part uses); the original code has no licence file",
)
class FasterNet(TimmBackbone):
    """FasterNet: a 3x3 convolution on a quarter of the channels, then two 1x1 over all of them.

    A block is x + narrow(activation(norm(widen(pconv(x))))).

    [B,3,H,W] to a list of maps for each of `strides` (of 4, 8, 16, 32). The block alone is the part
    `fasternet-block`, its convolution the part `pconv`.
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32),
        *,
        size: Size = "t0",
        drop_path: DropPathRate = 0.0,
    ) -> None:
        super().__init__(strides, name=f"fasternet_{size}", drop_path=drop_path)
