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
from detrofit.weights.names import NameMap
from detrofit.weights.official import CSP_REP, encoder_names

from .fixtures import Case, cases, renamed
from .naming import activation, run, skip_other_arguments, without_bias_before_norm
from .official import BLOCKS_AT_FULL_DEPTH, aifi_options, csp_rep_options, encoder_arguments, encoder_strides


@pytest.mark.parametrize("case", cases("pos_embed"))
def test_position_embedding(case: Case) -> None:
    args = case.args
    skip_other_arguments(args, ("w", "h", "embed_dim", "temperature"))
    embedding = position_embedding(args["w"], args["h"], args.get("embed_dim", 256), args.get("temperature", 10000.0))
    case.assert_close(embedding, "pe")


@pytest.mark.parametrize("case", cases("csprep_layer"))
def test_fusion_block(case: Case) -> None:
    args = case.args
    skip_other_arguments(args, ("in_channels", "out_channels", "num_blocks", "expansion", "act", "bias"))
    block = CspRep(
        args["in_channels"],
        args["out_channels"],
        expansion=args.get("expansion", 1.0),
        blocks=args.get("num_blocks", BLOCKS_AT_FULL_DEPTH),
        activation=activation(args.get("act", "silu")),  # type: ignore[arg-type]
    )
    state = without_bias_before_norm(case.state, "norm")
    block.load_state_dict(renamed(state, NameMap(CSP_REP, ()).ours))
    block.eval()
    case.assert_close(run(block, case.inputs["x"]), "y")
    deployed = fuse(block)
    assert all(".conv1." not in name for name, _ in deployed.blocks.named_parameters())
    case.assert_close(run(deployed, case.inputs["x"]), "y_deploy")


@pytest.mark.parametrize("case", cases("hybrid_encoder"))
def test_hybrid_encoder(case: Case) -> None:
    encoder = _encoder(case.args)
    state = case.state
    if isinstance(encoder.attention, nn.Identity):  # the original keeps layers that it doesn't run
        state = {name: value for name, value in state.items() if not name.startswith("encoder.")}
    encoder.load_state_dict(renamed(state, encoder_names(state).ours))
    encoder.eval()
    maps = [case.inputs[f"c{level}"] for level in range(len(encoder.strides))]
    for level, fused in enumerate(run(encoder, maps)):
        case.assert_close(fused, f"out{level}")
    last = encoder.input_projection[f"stride{encoder.strides[-1]}"]
    case.assert_close(run(encoder.attention, run(last, maps[-1])), "aifi")


def _encoder(given: dict[str, Any]) -> HybridEncoder:
    args = encoder_arguments(given)
    hidden_dim, options = args["hidden_dim"], aifi_options(args)
    attention = nn.Identity() if options is None else AIFI(hidden_dim, **options)
    choice = PartChoice("csp-rep", csp_rep_options(args))
    slots = Assembly({"encoder.fusion_block": choice}, {}).filler()
    strides, act = encoder_strides(args), activation(args["act"])
    fusion = CCFM(slots, hidden_dim, strides, activation=act)  # type: ignore[arg-type]
    return HybridEncoder(args["in_channels"], strides, hidden_dim, attention, nn.Identity(), fusion)
