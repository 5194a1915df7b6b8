"""The whole official RT-DETR-R18 against ours, its checkpoint's names translated by `weights.official`."""

from __future__ import annotations

import pytest
import torch

from detrofit import build
from detrofit.model.output import Prediction
from detrofit.model.postprocess import postprocess
from detrofit.weights.official import from_official

from .fixtures import Case, cases, procedural, rows_by_index


@pytest.mark.parametrize("case", cases("rtdetr_r18_proc"))
@torch.no_grad()
def test_whole_model(case: Case) -> None:
    encoder, decoder = case.args["encoder"], case.args["decoder"]
    model = build(
        f"rtdetr-r{case.args['backbone']['depth']}",
        {
            "encoder.attention": {"part": "aifi", "ffn_dim": encoder["dim_feedforward"], "heads": encoder["nhead"]},
            "encoder.fusion_block": {"part": "csp-rep", "expansion": encoder["expansion"]},
        },
        num_classes=decoder["num_classes"],
        settings={
            "hidden_dim": encoder["hidden_dim"],
            "decoder_dim": decoder["hidden_dim"],
            "decoder_layers": decoder["num_decoder_layers"],
            "decoder_ffn_dim": decoder["dim_feedforward"],
            "num_queries": decoder["num_queries"],
            "points": [decoder["num_decoder_points"]],
        },
    )
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


def check_detections(case: Case, prediction: Prediction) -> None:
    expected = case.outputs
    detections = postprocess(prediction, torch.ones(1, 2), max_detections=len(expected["post_scores"]))
    case.assert_close(detections.scores[0], "post_scores")
    # Neighbours of almost equal score may change places.
    gaps = -expected["post_scores"].diff()
    edge = torch.tensor([1.0])
    clear = torch.minimum(torch.cat([edge, gaps]), torch.cat([gaps, edge])) > 1e-5
    assert clear.sum() > len(clear) / 2
    assert torch.equal(detections.labels[0, clear], expected["post_labels"][clear])
    # The record does not say how large the original picture was: a whole number of pixels that fits all boxes.
    ours, theirs = detections.boxes[0, clear].view(-1, 2, 2), expected["post_boxes"][clear].view(-1, 2, 2)
    size = ((ours * theirs).sum((0, 1)) / ours.square().sum((0, 1))).round()
    torch.testing.assert_close(ours * size, theirs, atol=0.1, rtol=1e-3)
