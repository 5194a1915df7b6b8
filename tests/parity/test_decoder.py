"""The decoder's side against the original implementations."""

from __future__ import annotations

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

SAMPLING: dict[str, Sampling] = {"default": "bilinear", "discrete": "discrete"}
# Of these, the stride of a level, the size of evaluated images and their dropout change nothing.
ARGUMENTS = (
    "feat_channels", "feat_strides", "eval_spatial_size", "num_classes", "hidden_dim", "num_queries", "num_levels",
    "num_layers", "num_decoder_layers", "eval_idx", "nhead", "dim_feedforward", "activation", "num_points",
    "num_decoder_points", "cross_attn_method", "query_select_method", "learnt_init_query", "learn_query_content",
    "num_denoising", "label_noise_ratio", "box_noise_scale", "dropout",
)  # fmt: skip


@pytest.mark.parametrize("case", cases("ms_deform_attn"))
def test_deformable_attention(case: Case) -> None:
    args, shapes = case.args, [tuple(shape) for shape in case.setup["_shapes"]]
    skip_other_arguments(args, ("embed_dim", "num_heads", "num_levels", "num_points", "method"))
    attention = DeformableAttention(
        args["embed_dim"],
        args["num_heads"],
        args["num_levels"],
        args["num_points"],
        SAMPLING[args.get("method", "default")],
    )
    attention.load_state_dict(renamed(case.state, [(name, attention_name(name)) for name in case.state]))
    reference = case.inputs["reference_points"].squeeze(2)
    case.assert_close(attention(case.inputs["query"], reference, case.inputs["value"], shapes), "y")


@pytest.mark.parametrize("case", cases("rtdetr_decoder") + cases("rtdetrv2_decoder"))
def test_decoder(case: Case) -> None:
    decoder = official_decoder(case)
    if case.setup.get("_train"):
        check_training(case, decoder)
    else:
        check_evaluation(case, decoder)


def official_decoder(case: Case) -> Decoder:
    """A decoder of the case's arguments, given in either version's words, with its weights."""
    args = case.args
    skip_other_arguments(args, ARGUMENTS, position_embed_type="sine", aux_loss=True)
    # The originals' anchors double from level to level, the first one's being that of our stride 8.
    strides = [8 << level for level in range(args["num_levels"])]
    layers = args.get("num_decoder_layers", args.get("num_layers"))
    decoder = Decoder(
        args["feat_channels"],
        strides,
        args["num_classes"],
        hidden_dim=args["hidden_dim"],
        num_queries=args["num_queries"],
        num_layers=layers,
        eval_layers=args.get("eval_idx", -1) % layers + 1,
        num_heads=args["nhead"],
        feedforward_dim=args["dim_feedforward"],
        activation=activation(args["activation"]),  # type: ignore[arg-type]
        num_points=args.get("num_decoder_points", args.get("num_points")),
        sampling=SAMPLING[args.get("cross_attn_method", "default")],
        selection=args.get("query_select_method", "default"),
        learnt_content=args.get("learnt_init_query") or args.get("learn_query_content") or False,
        num_denoising=args["num_denoising"],
        label_noise=args["label_noise_ratio"],
        box_noise=args["box_noise_scale"],
    )
    state = renamed(case.state, [(name, decoder_name(name, strides)) for name in case.state])
    decoder.load_state_dict(state)
    return decoder.eval()


def feature_maps(case: Case) -> list[Tensor]:
    return [case.inputs[f"f{level}"].clone() for level in range(len(case.args["feat_channels"]))]


@torch.no_grad()
def check_evaluation(case: Case, decoder: Decoder) -> None:
    maps, expected = feature_maps(case), case.outputs
    output, selection = decoder(maps), decoder.query_selection
    assert torch.equal(output.selected.sort(1).values, expected["topk_ind"].sort(1).values)
    for name, values in (("pred_logits", output.prediction.logits), ("pred_boxes", output.prediction.boxes)):
        wanted = rows_by_index(expected[name], expected["topk_ind"])
        torch.testing.assert_close(rows_by_index(values, output.selected), wanted, **case.tolerance)
    memory, shapes = decoder.tokens(maps)
    features = selection.features(memory, make_anchors(shapes, decoder.strides, memory)[1])
    case.assert_close(selection.score_head(features), "enc_logits")
    case.assert_close(selection.box_head(features), "enc_bbox_delta")


def check_training(case: Case, decoder: Decoder) -> None:
    maps, expected = [level.requires_grad_() for level in feature_maps(case)], case.outputs
    decoder.train()
    for projection in decoder.input_projection.values():
        projection.eval()  # the originals' norms kept their statistics
    output = decoder(maps)
    assert not output.denoising and output.denoising_layout is None
    predictions: dict[str, Prediction] = {"": output.prediction}
    predictions |= {f"aux{index}.": value for index, value in enumerate((*output.auxiliary, *output.encoder))}
    assert sum(name.endswith("pred_boxes") for name in expected) == len(predictions)
    for prefix, prediction in predictions.items():
        case.assert_close(prediction.logits, f"{prefix}pred_logits")
        case.assert_close(prediction.boxes, f"{prefix}pred_boxes")
    total = torch.stack([values.square().sum() for prediction in predictions.values() for values in prediction]).sum()
    case.assert_close(total, "sumsq")
    for level, gradient in enumerate(torch.autograd.grad(total, maps)):
        case.assert_close(gradient, f"grad_f{level}")


@pytest.mark.parametrize("case", cases("denoising"))
def test_denoising(case: Case) -> None:
    args, expected = case.args, case.outputs
    denoising = Denoising(
        args["num_classes"],
        case.state["weight"].shape[1],
        args["num_denoising"],
        label_noise=args.get("label_noise_ratio", 0.0),
        box_noise=args["box_noise_scale"],
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
    if "bbox" in expected:
        case.assert_close(queries.reference, "bbox")


def official_targets(case: Case) -> list[dict[str, Tensor]]:
    count = sum(name.endswith(".boxes") for name in case.inputs)
    return [{key: case.inputs[f"target{image}.{key}"] for key in ("labels", "boxes")} for image in range(count)]


@pytest.mark.parametrize("case", cases("postprocessor"))
def test_postprocess(case: Case) -> None:
    prediction = Prediction(case.inputs["pred_logits"], case.inputs["pred_boxes"])
    sizes = case.inputs["orig_target_sizes"].flip(1)  # the originals' are (width, height)
    detections = postprocess(
        prediction,
        sizes,
        case.args["num_top_queries"],
        class_score="sigmoid" if case.args["use_focal_loss"] else "softmax",
    )
    for image in range(len(sizes)):
        # Where it leaves nothing out, the softmax form keeps the order of the queries; ours has the best first.
        order = case.outputs[f"{image}.scores"].argsort(descending=True, stable=True)
        for name, values in (("scores", detections.scores), ("labels", detections.labels), ("boxes", detections.boxes)):
            torch.testing.assert_close(values[image], case.outputs[f"{image}.{name}"][order], **case.tolerance)
