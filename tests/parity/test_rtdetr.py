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
from .naming import activation

BLOCKS_AT_FULL_DEPTH = 3


@pytest.mark.parametrize("case", cases("rtdetr_r18_proc"))
@torch.no_grad()
def test_whole_model(case: Case) -> None:
    model = official_model(**case.args)
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


def official_model(backbone: dict[str, Any], encoder: dict[str, Any], decoder: dict[str, Any]) -> RTDETR:
    """Our model of the arguments that the official one's three modules were built with."""
    if encoder["use_encoder_idx"] != [2] or decoder["activation"] != "relu" or backbone["variant"] != "d":
        pytest.skip("the last level alone has attention, the decoder ReLU and the backbone vd shortcuts here")
    act, layers = activation(encoder["act"]), decoder["num_decoder_layers"]
    blocks = {"part": "basic" if backbone["depth"] < 50 else "bottleneck", "activation": activation(backbone["act"])}
    return build(
        f"rtdetr-r{backbone['depth']}",
        {
            "backbone.stem": {"part": "deep-stem", "activation": activation(backbone["act"])},
            "backbone.stage[1,2,3,4].block": blocks,
            "encoder.attention": {
                "part": "aifi",
                "layers": encoder["num_encoder_layers"],
                "ffn_dim": encoder["dim_feedforward"],
                "heads": encoder["nhead"],
                "activation": activation(encoder["enc_act"]),
                "temperature": encoder["pe_temperature"],
            },
            "encoder.fusion": {"part": "ccfm", "activation": act},
            "encoder.fusion_block": {
                "part": "csp-rep",
                "expansion": encoder["expansion"],
                "blocks": round(BLOCKS_AT_FULL_DEPTH * encoder["depth_mult"]),
                "activation": act,
            },
        },
        num_classes=decoder["num_classes"],
        settings={
            "hidden_dim": encoder["hidden_dim"],
            "decoder_dim": decoder["hidden_dim"],
            "decoder_layers": layers,
            "eval_decoder_layers": decoder.get("eval_idx", -1) % layers + 1,
            "heads": decoder["nhead"],
            "decoder_ffn_dim": decoder["dim_feedforward"],
            "learnt_queries": decoder.get("learnt_init_query", False),
            "num_queries": decoder["num_queries"],
            "points": [decoder["num_decoder_points"]],
            "num_denoising": decoder["num_denoising"],
        },
    )


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
