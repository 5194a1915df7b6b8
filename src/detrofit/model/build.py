"""From a frame and its choices of parts to a model with its initial values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from detrofit.errors import DetrofitError
from detrofit.model.criterion import Criterion
from detrofit.model.decoder import Decoder
from detrofit.model.detector import RTDETR
from detrofit.model.frame import Frame
from detrofit.model.hybrid_encoder import HybridEncoder
from detrofit.model.initialise import initialise
from detrofit.model.matcher import HungarianMatcher
from detrofit.parts.assembly import Assembly, Filled, SlotFiller
from detrofit.parts.retrofit import PartChoice
from detrofit.parts.slots import (
    BACKBONE,
    ENCODER_ATTENTION,
    ENCODER_CONTEXT,
    ENCODER_FUSION,
    LOSS_BOX,
    LOSS_CLASS,
    MATCHER_BOX,
)

Choices = Mapping[str, PartChoice]


def build_model(frame: Frame, stock: Choices, retrofit: Choices, *, num_classes: int, seed: int = 0) -> RTDETR:
    """The model of a frame with the retrofit's parts over the stock ones, its initial values drawn from `seed`.

    Raises DetrofitError for a bad slot, part, option or shape before any work.
    """
    model, _ = assemble(frame, stock, retrofit, num_classes=num_classes)
    initialise(model, seed)
    return model


def assemble(frame: Frame, stock: Choices, retrofit: Choices, *, num_classes: int) -> tuple[RTDETR, list[Filled]]:
    """The model without initial values worth keeping, and the record of every place that was filled."""
    if num_classes < 1:
        raise DetrofitError(f"a detector needs at least one class, not {num_classes}")
    assembly = Assembly(stock, retrofit)
    parts = _parts(frame, assembly.filler())
    try:
        assembly.check_all_used()
    except DetrofitError:
        with torch.device("meta"):
            plain = Assembly(stock, {})
            _parts(frame, plain.filler())
        assembly.check_all_used(plain.filled)
    slots = assembly.resolved()
    criterion = Criterion(
        parts[LOSS_BOX.pattern],
        parts[LOSS_CLASS.pattern],
        HungarianMatcher(parts[MATCHER_BOX.pattern], box_weight=slots[MATCHER_BOX.pattern]["at"]["weight"]),
        class_weight=slots[LOSS_CLASS.pattern]["at"]["weight"],
        box_weight=slots[LOSS_BOX.pattern]["at"]["weight"],
    )
    backbone = parts[BACKBONE.pattern]
    _check_declared(backbone, slots[BACKBONE.pattern]["part"], frame)
    encoder = HybridEncoder(
        backbone.channels,  # type: ignore[arg-type]
        frame.strides,
        frame.hidden_dim,
        *(parts[slot.pattern] for slot in (ENCODER_ATTENTION, ENCODER_CONTEXT, ENCODER_FUSION)),
    )
    model = RTDETR(
        backbone,
        encoder,
        _decoder(frame, num_classes),
        criterion,
        frame=frame,
        num_classes=num_classes,
        slots=slots,
        retrofit=list(retrofit),
    )
    return model, assembly.filled


def _check_declared(backbone: nn.Module, name: str, frame: Frame) -> None:
    """DetrofitError unless a backbone says what the frame has to know of it."""
    lengths = {"channels": len(frame.strides), "strides": len(frame.strides), "mean": 3, "std": 3}
    for attribute, length in lengths.items():
        value = getattr(backbone, attribute, ())
        if not isinstance(value, (tuple, list)) or len(value) != length:
            raise DetrofitError(f"part '{name}' in slot backbone needs an attribute `{attribute}` of {length} numbers")
    if tuple(backbone.strides) != frame.strides:  # type: ignore[arg-type]
        raise DetrofitError(
            f"part '{name}' in slot backbone has maps of strides {tuple(backbone.strides)}, not {frame.strides}"  # type: ignore[arg-type]
        )


def _parts(frame: Frame, filler: SlotFiller) -> dict[str, nn.Module]:
    """The parts that the frame itself asks for, by address."""
    last = {"in_channels": frame.hidden_dim, "out_channels": frame.hidden_dim}
    return {
        BACKBONE.pattern: filler.fill(BACKBONE, default="resnet-vd", strides=frame.strides),
        ENCODER_ATTENTION.pattern: filler.fill(ENCODER_ATTENTION, default="aifi", **last),
        ENCODER_CONTEXT.pattern: filler.fill(ENCODER_CONTEXT, default="none", **last),
        ENCODER_FUSION.pattern: filler.fill(
            ENCODER_FUSION, default="ccfm", in_channels=frame.hidden_dim, strides=frame.strides
        ),
        LOSS_BOX.pattern: filler.fill(LOSS_BOX, default="giou"),
        LOSS_CLASS.pattern: filler.fill(LOSS_CLASS, default="vfl"),
        MATCHER_BOX.pattern: filler.fill(MATCHER_BOX, default="giou"),
    }


def _decoder(frame: Frame, num_classes: int) -> Decoder:
    return Decoder(
        [frame.hidden_dim] * len(frame.strides),
        frame.strides,
        num_classes,
        hidden_dim=frame.decoder_dim,
        num_queries=frame.num_queries,
        num_layers=frame.decoder_layers,
        eval_layers=frame.eval_decoder_layers,
        num_heads=frame.heads,
        feedforward_dim=frame.decoder_ffn_dim,
        num_points=frame.points_of_levels,
        sampling=frame.sampling,
        selection=frame.query_selection,
        learnt_content=frame.learnt_queries,
        num_denoising=frame.num_denoising,
        label_noise=frame.label_noise,
        box_noise=frame.box_noise,
    )
