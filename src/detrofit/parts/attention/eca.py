"""`eca`: efficient channel attention (arXiv:1910.03151)."""

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_ATTENTION

Kernel = Annotated[
    Literal[3, 5, 7, 9] | None, Field(description="channels that a gate sees; none: as many as the paper's rule says")
]


@part("eca", fits=[STAGE_ATTENTION], paper="arXiv:1910.03151", licence="MIT original (ECANet)")
class EfficientChannelAttention(nn.Module):
    """Efficient channel attention: a gate a channel from the means of its neighbours, by one 1-D convolution.

    x * sigmoid(conv1d(mean(x))), the convolution running over channels, without bias; [B,C,H,W] to the same. Without
    `kernel` its width is the paper's: |log2(C)/2 + 1/2|, cut to an integer, made odd by adding one.
    """

    def __init__(self, in_channels: int, *, kernel: Kernel = None) -> None:
        super().__init__()
        size = kernel or int(abs(math.log2(in_channels) / 2 + 0.5)) | 1
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3))
        return x * self.conv(means[:, None]).sigmoid()[:, 0, :, None, None]
