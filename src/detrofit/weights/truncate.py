"""A trained model with fewer decoder layers or another number of queries, without training."""

from __future__ import annotations

from detrofit.config.models import checked_frame
from detrofit.errors import DetrofitError
from detrofit.model.build import assemble
from detrofit.model.detector import RTDETR
from detrofit.model.frame import Frame
from detrofit.parts.retrofit import parse_retrofit


def truncated(model: RTDETR, *, num_queries: int, decoder_layers: int) -> RTDETR:
    """A copy of `model` in eval mode that selects so many queries and has only its first decoder layers.

    Every decoder layer was trained with a head of its own, and queries are selected by score, so that what remains is
    a whole detector (arXiv:2304.08069, section 4.4). Raises DetrofitError as `truncated_frame` does.
    """
    slots = parse_retrofit(model.slots)
    shorter, _ = assemble(
        truncated_frame(model, num_queries=num_queries, decoder_layers=decoder_layers),
        slots,
        {address: slots[address] for address in model.retrofit if address in slots},
        num_classes=model.num_classes,
    )
    state = model.state_dict()
    kept = {name: state[name] for name in shorter.state_dict()}
    kept |= {name: tensor[:num_queries] for name, tensor in kept.items() if ".learnt_content." in name}
    shorter.load_state_dict(kept)
    return shorter.eval().to(next(model.parameters()).device)


def truncated_frame(model: RTDETR, *, num_queries: int, decoder_layers: int) -> Frame:
    """The frame that is left; DetrofitError for more layers or learnt queries than the model has, or for none."""
    frame = model.frame
    if not 1 <= decoder_layers <= frame.decoder_layers:
        raise DetrofitError(
            f"the model has {frame.decoder_layers} decoder layers, of which {decoder_layers} cannot be kept"
        )
    if frame.learnt_queries and num_queries > frame.num_queries:
        raise DetrofitError(f"the model has learnt {frame.num_queries} queries, and cannot have {num_queries}")
    numbers = {"num_queries": num_queries, "decoder_layers": decoder_layers, "eval_decoder_layers": None}
    return checked_frame(frame.model_dump() | numbers)
