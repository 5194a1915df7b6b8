"""The hybrid encoder, its position embedding and its fusion block against the official implementations."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from detrofit.model.fuse import fuse
from detrofit.model.hybrid_encoder import HybridEncoder
from detrofit.parts.assembly import Assembly
from detrofit.parts.attention.aifi import AIFI, position_embedding
from detrofit.parts.fusion.ccfm import CCFM
from detrofit.parts.fusion.csp_rep import CspRep
from detrofit.parts.retrofit import PartChoice
from detrofit.weights.names import NameMap, strides_of
from detrofit.weights.official import CSP_REP, encoder_names

from .fixtures import Case, cases, renamed
from .naming import activation, run, skip_other_arguments

BLOCKS_AT_FULL_DEPTH = 3
# Of these, the stride of a level and the size of evaluated images change nothing.
ARGUMENTS = (
    "in_channels", "feat_strides", "eval_spatial_size", "hidden_dim", "nhead", "dim_feedforward", "dropout", "enc_act",
    "use_encoder_idx", "num_encoder_layers", "pe_temperature", "expansion", "depth_mult", "act", "version",
)  # fmt: skip


@pytest.mark.parametrize("case", cases("pos_embed"))
def test_position_embedding(case: Case) -> None:
    args = case.args
    embedding = position_embedding(args["w"], args["h"], args["embed_dim"], args.get("temperature", 10000.0))
    case.assert_close(embedding, "pe")


@pytest.mark.parametrize("case", cases("csprep_layer"))
def test_fusion_block(case: Case) -> None:
    args = case.args
    skip_other_arguments(args, ("in_channels", "out_channels", "num_blocks", "expansion", "act"), bias=None)
    block = CspRep(
        args["in_channels"],
        args["out_channels"],
        expansion=args.get("expansion", 1.0),
        blocks=args.get("num_blocks", BLOCKS_AT_FULL_DEPTH),
        activation=activation(args.get("act", "silu")),  # type: ignore[arg-type]
    )
    names = NameMap(CSP_REP, ())
    block.load_state_dict(renamed(case.state, [(name, names.ours(name)) for name in case.state]))
    block.eval()
    case.assert_close(run(block, case.inputs["x"]), "y")
    deployed = fuse(block)
    assert all(".conv1." not in name for name, _ in deployed.blocks.named_parameters())
    case.assert_close(run(deployed, case.inputs["x"]), "y_deploy")


@pytest.mark.parametrize("case", cases("hybrid_encoder"))
def test_hybrid_encoder(case: Case) -> None:
    encoder = _encoder(case.args)
    names = encoder_names(case.state)
    encoder.load_state_dict(renamed(case.state, [(name, names.ours(name)) for name in case.state]))
    encoder.eval()
    maps = [case.inputs[f"c{level}"] for level in range(len(case.args["in_channels"]))]
    for level, fused in enumerate(run(encoder, maps)):
        case.assert_close(fused, f"out{level}")
    last = encoder.input_projection[f"stride{encoder.strides[-1]}"]
    case.assert_close(run(encoder.attention, run(last, maps[-1])), "aifi")


def _encoder(args: dict[str, Any]) -> HybridEncoder:
    skip_other_arguments(args, ARGUMENTS)
    if args["use_encoder_idx"] != [len(args["in_channels"]) - 1]:
        pytest.skip("there is attention on the last level only here")
    hidden_dim = args["hidden_dim"]
    attention = AIFI(
        hidden_dim,
        layers=args["num_encoder_layers"],
        heads=args["nhead"],
        ffn_dim=args["dim_feedforward"],
        dropout=args["dropout"],
        activation=activation(args["enc_act"]),  # type: ignore[arg-type]
        temperature=args.get("pe_temperature", 10000),
    )
    blocks = round(BLOCKS_AT_FULL_DEPTH * args["depth_mult"])
    act: Any = activation(args["act"])
    choice = PartChoice("csp-rep", {"expansion": args["expansion"], "blocks": blocks, "activation": act})
    slots = Assembly({"encoder.fusion_block": choice}, {}).filler()
    strides = strides_of(len(args["in_channels"]))  # which are names alone here
    fusion = CCFM(slots, hidden_dim, strides, activation=act)
    return HybridEncoder(args["in_channels"], strides, hidden_dim, attention, nn.Identity(), fusion)
