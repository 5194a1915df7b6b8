"""`se`: squeeze and excitation (arXiv:1709.01507)."""

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detrofit.parts.registry import part
from detrofit.parts.slots import STAGE_ATTENTION


@part("se", fits=[STAGE_ATTENTION], paper="arXiv:1709.01507", licence="Apache-2.0 original (SENet)")
class SqueezeExcitation(nn.Module):
    """Squeeze and excitation: every channel times a gate computed from the means of all channels.

    x * sigmoid(W2 ReLU(W1 mean(x))), [B,C,H,W] to the same; W1 goes to C // `reduction`, at least 1. Both have biases.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        reduction: Annotated[int, Field(ge=1, le=64, description="the gate's hidden width is C divided by it")] = 16,
    ) -> None:
        super().__init__()
        hidden = max(1, in_channels // reduction)
        self.squeeze = nn.Conv2d(in_channels, hidden, 1)
        self.excite = nn.Conv2d(hidden, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        return x * self.excite(functional.relu(self.squeeze(means))).sigmoid()
