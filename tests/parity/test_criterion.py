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
from .naming import skip_other_arguments

SIZE = (640, 640)


# The names of the originals' losses, and of what we compute in their place.
TERMS = {"class": "loss_{}", "l1": "loss_bbox", "box": "loss_giou"}
CLASS_LOSSES = ("vfl", "focal", "bce")
# Of these, the criterion reads the number of classes from the logits; others are of losses that are not here.
ARGUMENTS = ("weight_dict", "losses", "alpha", "gamma", "matcher", "v2", "num_classes", "eos_coef")


def build_matcher(args: dict[str, Any]) -> HungarianMatcher:
    skip_other_arguments(args, ("weight_dict", "use_focal_loss", "alpha", "gamma"))
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
    """The original's name of the one class loss, or of any where there is none."""
    names = [loss for loss in args["losses"] if loss != "boxes"] or [CLASS_LOSSES[0]]
    if len(names) > 1 or names[0] not in CLASS_LOSSES:
        pytest.skip(f"there is no class loss like {' with '.join(names)} here")
    return names[0]


def build_class_loss(args: dict[str, Any]) -> nn.Module:
    alpha, gamma = args.get("alpha", 0.2), args.get("gamma", 2.0)
    losses = {
        "vfl": lambda: VarifocalLoss(alpha=alpha, gamma=gamma),
        "focal": lambda: FocalLoss(alpha=alpha if alpha >= 0 else None, gamma=gamma),  # as in torchvision
        "bce": lambda: FocalLoss(alpha=None, gamma=0.0),
    }
    return losses[class_loss_name(args)]()


def weighed_terms(args: dict[str, Any]) -> dict[str, float]:
    """The weight of each of our losses that the original computes and weighs; it leaves out the others."""
    class_loss, weights = class_loss_name(args), args["weight_dict"]
    computed = {
        "class": class_loss in args["losses"],
        "l1": "boxes" in args["losses"],
        "box": "boxes" in args["losses"],
    }
    names = {term: name.format(class_loss) for term, name in TERMS.items()}
    return {term: weights[name] for term, name in names.items() if computed[term] and name in weights}


def build_criterion(args: dict[str, Any]) -> Criterion:
    skip_other_arguments(args, ARGUMENTS)
    weights, v2 = weighed_terms(args), args.get("v2") or {}
    skip_other_arguments(v2, ("boxes_weight_format", "share_matched_indices"))
    return Criterion(
        GeneralizedIoULoss(),
        build_class_loss(args),
        build_matcher(args["matcher"]),
        class_weight=weights.get("class", 0.0),
        l1_weight=weights.get("l1", 0.0),
        box_weight=weights.get("box", 0.0),
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


def read_output(inputs: dict[str, Tensor], encoder_outputs: int) -> DetectorOutput:
    """What the criterion is given; the last of the auxiliary predictions are the encoder's."""
    auxiliary = [read_prediction(inputs, name) for name in numbered(inputs, "aux{}.")]
    decoder_outputs = len(auxiliary) - encoder_outputs
    auxiliary, encoder = auxiliary[:decoder_outputs], auxiliary[decoder_outputs:]
    denoising = [read_prediction(inputs, name) for name in numbered(inputs, "dn{}.")]
    layout = None
    if denoising:
        positives = [inputs[name] for name in numbered(inputs, "dn_positive_idx.{}")]
        layout = DenoisingLayout(int(inputs["dn_num_group"]), denoising[0].logits.shape[1], positives)
    prediction = read_prediction(inputs)
    return DetectorOutput(prediction, auxiliary, encoder, denoising, layout, torch.empty(0))


def original_name(name: str, class_loss: str) -> str:
    term, _, layer = name.partition(".")
    term = TERMS[term].format(class_loss)
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


@pytest.mark.parametrize("case", cases("criterion*"))
def test_losses_and_gradients(case: Case) -> None:
    class_loss, terms = class_loss_name(case.args), weighed_terms(case.args)
    names = {name for name in case.outputs if name.startswith("loss_")}
    output = read_output(
        case.inputs, encoder_outputs=len({name.split("_enc_")[1] for name in names if "_enc_" in name})
    )
    for values in output.prediction:
        values.requires_grad_()
    losses = build_criterion(case.args)(output, read_targets(case.inputs), SIZE)
    ours = {original_name(name, class_loss): value for name, value in losses.items() if name.split(".")[0] in terms}
    assert ours.keys() == names
    for name, value in ours.items():
        case.assert_close(value, name)
    total = torch.stack(list(losses.values())).sum()
    case.assert_close(total, "total")
    total.backward()
    for name, values in zip(("grad_pred_logits", "grad_pred_boxes"), output.prediction):
        assert values.grad is not None
        case.assert_close(values.grad, name)
