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
    check_detections(case, output.prediction, images.shape[-2:])


def check_detections(case: Case, prediction: Prediction, size: tuple[int, int]) -> None:
    expected = case.outputs
    detections = postprocess(prediction, torch.tensor([size]), max_detections=len(expected["post_scores"]))
    case.assert_close(detections.scores[0], "post_scores")
    # Neighbours of almost equal score may change places.
    gaps = -expected["post_scores"].diff()
    edge = torch.tensor([1.0])
    clear = torch.minimum(torch.cat([edge, gaps]), torch.cat([gaps, edge])) > 1e-5
    assert clear.sum() > len(clear) / 2
    assert torch.equal(detections.labels[0, clear], expected["post_labels"][clear])
    torch.testing.assert_close(detections.boxes[0, clear], expected["post_boxes"][clear], atol=0.1, rtol=1e-3)
