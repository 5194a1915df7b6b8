"""`none`: an empty slot."""

from torch import nn

from detrofit.parts.registry import part
from detrofit.parts.slots import (
    ENCODER_ATTENTION,
    ENCODER_CONTEXT,
    FUSION_BLOCK,
    STAGE_ATTENTION,
    STAGE_BLOCK,
    STAGE_INSERT,
)


@part("none", fits=[STAGE_BLOCK, STAGE_INSERT, STAGE_ATTENTION, ENCODER_ATTENTION, ENCODER_CONTEXT, FUSION_BLOCK])
class Nothing(nn.Identity):
    """Leaves the slot empty: the map passes unchanged.

    Where the slot strides or widens, what the frame puts before it is all that is left: the stage's downsample, or a
    1x1 convolution with its norm.
    """

    def __init__(self) -> None:
        super().__init__()
