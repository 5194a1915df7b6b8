"""The decoder's side against the original implementations."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from detrofit.model.decoder import Decoder
from detrofit.model.deformable_attention import DeformableAttention, Sampling
from detrofit.model.denoising import Denoising
from detrofit.model.output import Prediction
from detrofit.model.postprocess import postprocess
from detrofit.model.query_selection import make_anchors
from detrofit.weights.official_decoder import attention_name, decoder_name

from .fixtures import Case, cases, renamed, rows_by_index
from .naming import activation, skip_other_arguments
from .official import decoder_arguments, evaluated_layers

SAMPLING: dict[str, Sampling] = {"default": "bilinear", "discrete": "discrete"}
DENOISING_ARGUMENTS = ("num_classes", "num_queries", "num_denoising", "label_noise_ratio", "box_noise_scale")
# Constants that the originals keep.
COMPUTED = ("anchors", "valid_mask", "num_points_scale")


@pytest.mark.parametrize("case", cases("ms_deform_attn"))
def test_deformable_attention(case: Case) -> None:
    args, shapes = case.args, [tuple(shape) for shape in case.setup["_shapes"]]
    skip_other_arguments(args, ("embed_dim", "num_heads", "num_levels", "num_points", "method"), offset_scale=0.5)
    attention = DeformableAttention(
        args.get("embed_dim", 256),
        args.get("num_heads", 8),
        args.get("num_levels", 4),
        args.get("num_points", 4),
        SAMPLING[args.get("method", "default")],
    )
    attention.load_state_dict(renamed(case.state, attention_name, *COMPUTED))
    case.assert_close(attention(case.inputs["query"], reference_boxes(case), case.inputs["value"], shapes), "y")


def reference_boxes(case: Case) -> Tensor:
    """The references `[B,Q,4]`; skips a case with points in place of boxes, or with others for each level."""
    reference = case.inputs["reference_points"]
    reference = reference if reference.ndim == 4 else reference.unsqueeze(2)
    if reference.shape[-1] != 4 or "value_mask" in case.inputs or (reference != reference[:, :, :1]).any():
        pytest.skip("a query has one box for all levels here, and reads all of a map")
    return reference[:, :, 0]


@pytest.mark.parametrize("case", cases("rtdetr*_decoder"))
def test_decoder(case: Case) -> None:
    args = decoder_arguments(case.args)
    decoder = official_decoder(args, case.state)
    if case.setup.get("_train"):
        check_training(case, args, decoder)
    else:
        check_evaluation(case, decoder)


def official_decoder(args: dict[str, Any], weights: dict[str, Tensor]) -> Decoder:
    """A decoder of the official arguments with the official weights."""
    # The originals' anchors double from level to level, the first one's being that of our stride 8.
    strides = [8 << level for level in range(args["num_levels"])]
    decoder = Decoder(
        args["feat_channels"],
        strides,
        args["num_classes"],
        hidden_dim=args["hidden_dim"],
        num_queries=args["num_queries"],
        num_layers=args["num_layers"],
        eval_layers=evaluated_layers(args),
        num_heads=args["nhead"],
        feedforward_dim=args["dim_feedforward"],
        activation=activation(args["activation"]),  # type: ignore[arg-type]
        num_points=args["num_points"],
        sampling=SAMPLING[args["cross_attn_method"]],
        selection=args["query_select_method"],
        learnt_content=args["learn_query_content"],
        num_denoising=args["num_denoising"],
        label_noise=args["label_noise_ratio"],
        box_noise=args["box_noise_scale"],
    )
    decoder.load_state_dict(renamed(weights, lambda name: decoder_name(name, strides), *COMPUTED))
    return decoder.eval()


def feature_maps(case: Case) -> list[Tensor]:
    levels = sorted(name for name in case.inputs if re.fullmatch("f[0-9]", name))
    return [case.inputs[level].clone() for level in levels]


@torch.no_grad()
def check_evaluation(case: Case, decoder: Decoder) -> None:
    maps, expected = feature_maps(case), case.outputs
    output, selection = decoder(maps), decoder.query_selection
    tokens = expected["topk_ind"]
    if selection.method == "one2many" and tokens.max() >= expected["enc_logits"].shape[1]:
        tokens = tokens // expected["enc_logits"].shape[2]  # pairs of a token and a class
    assert torch.equal(output.selected.sort(1).values, tokens.sort(1).values)
    for name, values in (("pred_logits", output.prediction.logits), ("pred_boxes", output.prediction.boxes)):
        wanted = rows_by_index(expected[name], tokens)
        torch.testing.assert_close(rows_by_index(values, output.selected), wanted, **case.tolerance)
    memory, shapes = decoder.tokens(maps)
    features = selection.features(memory, make_anchors(shapes, decoder.strides, memory)[1])
    case.assert_close(selection.score_head(features), "enc_logits")
    case.assert_close(selection.box_head(features), "enc_bbox_delta")


def check_training(case: Case, args: dict[str, Any], decoder: Decoder) -> None:
    if args["dropout"] or args["num_denoising"]:
        pytest.skip("draws of the original's dropout and denoising are not ours")
    maps, expected = [level.requires_grad_() for level in feature_maps(case)], case.outputs
    decoder.train()
    for projection in decoder.input_projection.values():
        projection.eval()  # the originals' norms kept their statistics
    output = decoder(maps)
    assert not output.denoising and output.denoising_layout is None
    predictions: dict[str, Prediction] = {"": output.prediction}
    predictions |= {f"aux{index}.": value for index, value in enumerate((*output.auxiliary, *output.encoder))}
    if not args["aux_loss"]:
        predictions = {"": output.prediction}
    assert sum(name.endswith("pred_boxes") for name in expected) == len(predictions)
    for prefix, prediction in predictions.items():
        case.assert_close(prediction.logits, f"{prefix}pred_logits")
        case.assert_close(prediction.boxes, f"{prefix}pred_boxes")
    total = torch.stack([values.square().sum() for prediction in predictions.values() for values in prediction]).sum()
    case.assert_close(total, "sumsq")
    if len(maps[0]) == 1:
        return  # through tokens and a batch norm, torch 2.14 gives the original a wrong gradient of a single picture
    for level, gradient in enumerate(torch.autograd.grad(total, maps)):
        case.assert_close(gradient, f"grad_f{level}")


@pytest.mark.parametrize("case", cases("denoising"))
def test_denoising(case: Case) -> None:
    args, expected = case.args, case.outputs
    skip_other_arguments(args, DENOISING_ARGUMENTS)
    if "attn_mask" not in expected:
        pytest.skip("the original makes no queries here, which ours leaves to the decoder, or to padding")
    denoising = Denoising(
        args["num_classes"],
        case.state["weight"].shape[1],
        args.get("num_denoising", 100),
        label_noise=args.get("label_noise_ratio", 0.0),
        box_noise=args.get("box_noise_scale", 1.0),
    )
    denoising.embedding.load_state_dict(case.state)
    targets = official_targets(case)
    queries = denoising(targets, args["num_queries"])
    layout = queries.layout
    hidden, first = expected["attn_mask"].bool(), layout.num_queries
    assert torch.equal(~queries.visible, hidden[:first])
    assert hidden[first:, :first].all() and not hidden[first:, first:].any()  # as the decoder's layers take it
    assert layout.num_groups == expected["dn_num_group"].item()
    assert [layout.num_queries, args["num_queries"]] == expected["dn_num_split"].tolist()
    for image, positives in enumerate(layout.positives):
        assert torch.equal(positives, expected[f"dn_positive_idx.{image}"])
    if not denoising.label_noise:  # whose draws are not those of the original
        case.assert_close(queries.content, "class_embed_out")
    if denoising.box_noise <= 0:
        case.assert_close(queries.reference, "bbox")


def official_targets(case: Case) -> list[dict[str, Tensor]]:
    count = sum(name.endswith(".boxes") for name in case.inputs)
    return [{key: case.inputs[f"target{image}.{key}"] for key in ("labels", "boxes")} for image in range(count)]


@pytest.mark.parametrize("case", cases("postprocessor"))
def test_postprocess(case: Case) -> None:
    prediction = Prediction(case.inputs["pred_logits"], case.inputs["pred_boxes"])
    skip_other_arguments(case.args, ("num_classes", "use_focal_loss", "num_top_queries"), remap_mscoco_category=False)
    sizes = case.inputs["orig_target_sizes"].flip(1)  # the originals' are (width, height)
    detections = postprocess(
        prediction,
        sizes,
        case.args.get("num_top_queries", 300),
        class_score="sigmoid" if case.args.get("use_focal_loss", True) else "softmax",
    )
    for image in range(len(sizes)):
        # Where it leaves nothing out, the softmax form keeps the order of the queries; ours has the best first.
        order = case.outputs[f"{image}.scores"].argsort(descending=True, stable=True)
        for name, values in (("scores", detections.scores), ("labels", detections.labels), ("boxes", detections.boxes)):
            torch.testing.assert_close(values[image], case.outputs[f"{image}.{name}"][order], **case.tolerance)
