"""The slots of the frame and their contracts, as data: one `Slot` a kind of place that can be changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model


@dataclass(frozen=True)
class Slot:
    """A kind of place in the frame.

    `pattern` is its address, `{stage}` standing for a number; `contract` says in words what a part must do;
    `numbers` are the plain numbers that the frame may give to a part (by these keyword names);
    `choices` are what the slot itself lets one choose under `at`, as pydantic field definitions (type, default);
    `host_skips` tells that the host has a shortcut around the slot, so that a part's own is off by default.
    """

    pattern: str
    contract: str
    numbers: tuple[str, ...] = ()
    choices: Mapping[str, Any] = field(default_factory=dict, compare=False)
    host_skips: bool = field(default=False, compare=False)

    def address(self, context: Mapping[str, int], index: int | None = None) -> str:
        """The address in this context; `index` tells places that share an address apart (`backbone.stage4.block1`)."""
        return self.pattern.format(**context) + ("" if index is None else str(index))

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """Matches every address of this kind, with or without an index."""
        return re.compile(re.sub(r"\\{\w+\\}", r"\\d+", re.escape(self.pattern)) + r"\d*")

    @cached_property
    def at_model(self) -> type[BaseModel]:
        """The validated form of what stands under `at`."""
        return create_model("At", __config__=ConfigDict(extra="forbid"), **dict(self.choices))


SHAPE = ("in_channels", "out_channels", "stride")
WIDTHS = ("in_channels", "out_channels")
Weight = Annotated[float, Field(ge=0)]

BACKBONE = Slot(
    "backbone",
    "image [B,3,H,W] to a list of maps, one for each of `strides`; declares channels, strides, mean and std",
    ("slots", "strides"),
)
BACKBONE_STEM = Slot("backbone.stem", "[B,3,H,W] to [B,Cout,H/4,W/4], as two downsamples", SHAPE)
STAGE_BLOCK = Slot(
    "backbone.stage{stage}.block",
    "[B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]",
    ("slots", *SHAPE, "first"),
    {"shortcut": (Literal["own", "vd"], Field("own", description="the part's own skip, or the host's with its ReLU"))},
)
STAGE_CONV = Slot(
    "backbone.stage{stage}.conv",
    "the 3x3 convolution with norm inside a residual block: [B,Cin,H,W] to [B,Cout,ceil(H/stride),ceil(W/stride)]",
    SHAPE,
    {"which": (Literal["second", "both"], Field("second", description="which 3x3 of a basic block"))},
    host_skips=True,
)
STAGE_INSERT = Slot(
    "backbone.stage{stage}.insert",
    "an additional part after the 3x3 of a residual block: [B,C,H,W] to itself",
    WIDTHS,
    host_skips=True,
)
STAGE_ATTENTION = Slot(
    "backbone.stage{stage}.attention", "the stage's output [B,C,H,W] to itself", ("in_channels", "out_channels")
)
STAGE_DOWNSAMPLE = Slot(
    "backbone.stage{stage}.downsample",
    "the strided convolution of the stage's main branch: [B,Cin,H,W] to [B,Cout,ceil(H/2),ceil(W/2)]",
    WIDTHS,
)
ENCODER_ATTENTION = Slot("encoder.attention", "the last level [B,C,H,W] to itself", WIDTHS)
ENCODER_CONTEXT = Slot("encoder.context", "the last level [B,C,H,W] to itself, after the attention", WIDTHS)
ENCODER_FUSION = Slot(
    "encoder.fusion",
    "a list of maps [B,C,H/stride,W/stride] to a list of the same shapes",
    ("slots", "in_channels", "strides"),
)
FUSION_BLOCK = Slot("encoder.fusion_block", "[B,Cin,H,W] to [B,Cout,H,W]", WIDTHS)
ENCODER_DOWNSAMPLE = Slot("encoder.downsample", "[B,Cin,H,W] to [B,Cout,ceil(H/2),ceil(W/2)]", WIDTHS)
LOSS_BOX = Slot(
    "loss.box",
    "loss(predicted, target, image_size) of cxcywh boxes in 0..1, broadcasting over leading dimensions",
    (),
    {"weight": (Weight, Field(2.0, description="factor of this loss in the sum"))},
)
LOSS_CLASS = Slot(
    "loss.class",
    "loss(logits, one_hot, iou), unreduced, of the shape of the logits",
    (),
    {"weight": (Weight, Field(1.0, description="factor of this loss in the sum"))},
)
MATCHER_BOX = Slot(
    "matcher.box",
    "as loss.box, between every prediction and every target of an image",
    (),
    {"weight": (Weight, Field(2.0, description="factor of this cost in the sum"))},
)

SLOTS: tuple[Slot, ...] = (
    BACKBONE,
    BACKBONE_STEM,
    STAGE_BLOCK,
    STAGE_CONV,
    STAGE_INSERT,
    STAGE_ATTENTION,
    STAGE_DOWNSAMPLE,
    ENCODER_ATTENTION,
    ENCODER_CONTEXT,
    ENCODER_FUSION,
    FUSION_BLOCK,
    ENCODER_DOWNSAMPLE,
    LOSS_BOX,
    LOSS_CLASS,
    MATCHER_BOX,
)

# Where the frame must stride for a part that cannot, the slot whose part does it.
STRIDE_SLOTS: dict[Slot, Slot] = {STAGE_BLOCK: STAGE_DOWNSAMPLE, STAGE_CONV: STAGE_DOWNSAMPLE}
