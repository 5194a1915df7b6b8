"""The whole official RT-DETR-R18 against ours, its checkpoint's names translated by `weights.official`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from detrofit import build
from detrofit.model.detector import RTDETR
from detrofit.model.output import Prediction
from detrofit.model.postprocess import postprocess
from detrofit.weights.official import from_official

from .fixtures import Case, cases, procedural, rows_by_index
from .naming import activation, skip_other_arguments
from .official import (
    aifi_options,
    csp_rep_options,
    decoder_arguments,
    encoder_arguments,
    encoder_strides,
    evaluated_layers,
)
from .test_backbones import FREEZING
from .test_decoder import SAMPLING


@pytest.mark.parametrize("case", cases("rtdetr*_proc"))
@torch.no_grad()
def test_whole_model(case: Case) -> None:
    model = official_model(case.args)
    model.load_state_dict(from_official(case.state))
    model.eval()
    images = procedural().tensor("input", case.setup["_x"], case.setup["_salt"], 0, 1)

    maps = model.backbone(images)
    case.assert_close(maps[-1][:, :64], "backbone_c5_ch0_63")
    maps = model.encoder(maps)
    case.assert_close(maps[-1][:, :64], "encoder_p5_ch0_63")

    output = model(images)
    expected = case.outputs
    assert torch.equal(output.selected.sort(1).values, expected["topk_ind"].sort(1).values)
    for name, values in (("pred_logits", output.prediction.logits), ("pred_boxes", output.prediction.boxes)):
        wanted = rows_by_index(expected[name], expected["topk_ind"])
        torch.testing.assert_close(rows_by_index(values, output.selected), wanted, **case.tolerance)
    check_detections(case, output.prediction)


def official_model(args: dict[str, Any]) -> RTDETR:
    """Our model of the arguments that the official one's three modules were built with."""
    skip_other_arguments(args, ("backbone", "encoder", "decoder", "multi_scale"))  # sizes of training images
    name, backbone = _backbone(args["backbone"])
    encoder, decoder = encoder_arguments(args["encoder"]), decoder_arguments(args["decoder"])
    if decoder["activation"] != "relu" or decoder["num_levels"] != len(encoder["in_channels"]):
        pytest.skip("a model's decoder has ReLU here, and no levels beyond the encoder's")
    attention = aifi_options(encoder)
    return build(
        name,
        {
            **backbone,
            "encoder.attention": "none" if attention is None else {"part": "aifi", **attention},
            "encoder.fusion": {"part": "ccfm", "activation": activation(encoder["act"])},
            "encoder.fusion_block": {"part": "csp-rep", **csp_rep_options(encoder)},
        },
        num_classes=decoder["num_classes"],
        settings={
            "strides": encoder_strides(encoder),
            "hidden_dim": encoder["hidden_dim"],
            "decoder_dim": decoder["hidden_dim"],
            "decoder_layers": decoder["num_layers"],
            "eval_decoder_layers": evaluated_layers(decoder),
            "heads": decoder["nhead"],
            "decoder_ffn_dim": decoder["dim_feedforward"],
            "learnt_queries": decoder["learn_query_content"],
            "query_selection": decoder["query_select_method"],
            "sampling": SAMPLING[decoder["cross_attn_method"]],
            "num_queries": decoder["num_queries"],
            "points": [points] if isinstance(points := decoder["num_points"], int) else points,
            "num_denoising": decoder["num_denoising"],
        },
    )


def _backbone(args: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The zoo's model with this backbone, and what is in the backbone's slots."""
    if "name" in args:
        skip_other_arguments(args, ("name", "return_idx", *FREEZING), use_lab=False)
        return f"rtdetr-{args['name'].lower()}", {}
    skip_other_arguments(args, ("depth", "return_idx", "act", *FREEZING), num_stages=4, variant="d")
    act = activation(args.get("act", "relu"))
    block = {"part": "basic" if args["depth"] < 50 else "bottleneck", "activation": act}
    slots = {"backbone.stem": {"part": "deep-stem", "activation": act}, "backbone.stage[1,2,3,4].block": block}
    return f"rtdetr-r{args['depth']}", slots


def check_detections(case: Case, prediction: Prediction) -> None:
    """Fail unless the detections are the same; of almost equal scores any order will do."""
    expected = {name: case.outputs[f"post_{name}"] for name in ("scores", "labels", "boxes")}
    ours = postprocess(prediction, torch.ones(1, 2), max_detections=len(expected["scores"]))
    case.assert_close(ours.scores[0], "post_scores")
    # The record does not say how large the original picture was: a whole number of pixels that fits all boxes.
    sides = ours.boxes[0].sum(0).view(2, 2).sum(0), expected["boxes"].sum(0).view(2, 2).sum(0)
    size = (sides[1] / sides[0]).round().repeat(2)
    mine = torch.cat([ours.boxes[0], ours.labels[0, :, None], ours.scores[0, :, None]], dim=1)
    theirs = torch.cat([expected["boxes"] / size, expected["labels"][:, None], expected["scores"][:, None]], dim=1)
    _, nearest = linear_sum_assignment(torch.cdist(theirs, mine).numpy())
    torch.testing.assert_close(mine[nearest], theirs, **case.tolerance)
