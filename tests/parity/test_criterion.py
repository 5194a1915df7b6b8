"""Matching, every loss term and its gradient against the original criteria of RT-DETR and RT-DETRv2."""

from __future__ import annotations

from itertools import count, takewhile
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detrofit.model.criterion import Criterion
from detrofit.model.matcher import HungarianMatcher
from detrofit.model.output import DenoisingLayout, DetectorOutput, Prediction
from detrofit.parts.losses.focal import FocalLoss
from detrofit.parts.losses.giou import GeneralizedIoULoss
from detrofit.parts.losses.vfl import VarifocalLoss

from .fixtures import Case, cases

SIZE = (640, 640)


def build_matcher(args: dict[str, Any]) -> HungarianMatcher:
    weights = args["weight_dict"]
    return HungarianMatcher(
        GeneralizedIoULoss(),
        class_weight=weights["cost_class"],
        l1_weight=weights["cost_bbox"],
        box_weight=weights["cost_giou"],
        class_cost="focal" if args.get("use_focal_loss") else "softmax",
        alpha=args.get("alpha", 0.25),
        gamma=args.get("gamma", 2.0),
    )


def class_loss_name(args: dict[str, Any]) -> str:
    (name,) = (loss for loss in args["losses"] if loss != "boxes")
    if name not in ("vfl", "focal", "bce"):
        pytest.skip(f"there is no class loss like {name} here")
    return name


def build_class_loss(args: dict[str, Any]) -> nn.Module:
    options = {"alpha": args.get("alpha", 0.2), "gamma": args.get("gamma", 2.0)}
    losses = {
        "vfl": lambda: VarifocalLoss(**options),
        "focal": lambda: FocalLoss(**options),
        "bce": lambda: FocalLoss(alpha=None, gamma=0.0),
    }
    return losses[class_loss_name(args)]()


def build_criterion(args: dict[str, Any]) -> Criterion:
    weights, v2 = args["weight_dict"], args.get("v2", {})
    return Criterion(
        GeneralizedIoULoss(),
        build_class_loss(args),
        build_matcher(args["matcher"]),
        class_weight=weights["loss_" + class_loss_name(args)],
        l1_weight=weights["loss_bbox"],
        box_weight=weights["loss_giou"],
        box_loss_scale=v2.get("boxes_weight_format") or "none",
        share_matches=v2.get("share_matched_indices", False),
    )


def numbered(inputs: dict[str, Tensor], name: str) -> list[str]:
    """`name0`, `name1`, ... as far as the inputs have them."""
    return list(takewhile(lambda key: any(k.startswith(key) for k in inputs), (name.format(n) for n in count())))


def read_targets(inputs: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    return [{key: inputs[name + key] for key in ("boxes", "labels")} for name in numbered(inputs, "target{}.")]


def read_prediction(inputs: dict[str, Tensor], prefix: str = "") -> Prediction:
    return Prediction(inputs[f"{prefix}pred_logits"], inputs[f"{prefix}pred_boxes"])


def read_output(inputs: dict[str, Tensor], *, encoder_apart: bool) -> DetectorOutput:
    auxiliary = [read_prediction(inputs, name) for name in numbered(inputs, "aux{}.")]
    encoder = [auxiliary.pop()] if encoder_apart else []
    denoising = [read_prediction(inputs, name) for name in numbered(inputs, "dn{}.")]
    layout = None
    if denoising:
        positives = [inputs[name] for name in numbered(inputs, "dn_positive_idx.{}")]
        layout = DenoisingLayout(int(inputs["dn_num_group"]), denoising[0].logits.shape[1], positives)
    prediction = read_prediction(inputs)
    return DetectorOutput(prediction, auxiliary, encoder, denoising, layout, torch.empty(0))


def original_name(name: str, class_loss: str) -> str:
    term, _, layer = name.partition(".")
    term = {"class": f"loss_{class_loss}", "l1": "loss_bbox", "box": "loss_giou"}[term]
    for ours, theirs in (("layer", "_aux_"), ("encoder", "_enc_"), ("denoising", "_dn_")):
        layer = layer.replace(ours, theirs)
    return term + layer


@pytest.mark.parametrize("case", cases("matcher"))
def test_matcher_indices(case: Case) -> None:
    targets = read_targets(case.inputs)
    matches = build_matcher(case.args)([read_prediction(case.inputs)], targets, SIZE)[0]
    start = 0
    for number, target in enumerate(targets):
        own = matches.image == number
        assert matches.query[own].tolist() == case.outputs[f"src_{number}"].tolist()
        assert (matches.target[own] - start).tolist() == case.outputs[f"tgt_{number}"].tolist()
        start += len(target["labels"])


@pytest.mark.parametrize("case", cases("criterion") + cases("criterion_v2"))
def test_losses_and_gradients(case: Case) -> None:
    output = read_output(case.inputs, encoder_apart="v2" in case.args)
    for values in output.prediction:
        values.requires_grad_()
    losses = build_criterion(case.args)(output, read_targets(case.inputs), SIZE)
    ours = {original_name(name, class_loss_name(case.args)): value for name, value in losses.items()}
    assert ours.keys() == {name for name in case.outputs if name.startswith("loss_")}
    for name, value in ours.items():
        case.assert_close(value, name)
    total = torch.stack(list(losses.values())).sum()
    case.assert_close(total, "total")
    total.backward()
    for name, values in zip(("grad_pred_logits", "grad_pred_boxes"), output.prediction):
        assert values.grad is not None
        case.assert_close(values.grad, name)
