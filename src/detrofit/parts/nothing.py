"""`none`: an empty slot."""

from torch import nn

from detrofit.parts.registry import part
from detrofit.parts.slots import ENCODER_ATTENTION, ENCODER_CONTEXT, STAGE_ATTENTION, STAGE_INSERT


@part("none", fits=[ENCODER_ATTENTION, ENCODER_CONTEXT, STAGE_ATTENTION, STAGE_INSERT], can_widen=True)
class Nothing(nn.Identity):
    """Leaves the slot empty: the map passes unchanged."""

    def __init__(self) -> None:
        super().__init__()
