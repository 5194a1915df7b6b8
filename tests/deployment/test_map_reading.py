"""A decoder that reads maps says what it said of tokens, for fewer multiplications where projections fold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detrofit.deployment.map_reading import Sampler, openvino_sampler, read_maps
from detrofit.model.decoder import Decoder
from detrofit.model.fuse import fuse
from tests.deployment.models import drawn

WIDTH, LAYERS = 16, 2


def make_decoder(channels: list[int], strides: list[int], **options: Any) -> Decoder:
    settings = {"hidden_dim": WIDTH, "num_queries": 9, "num_layers": LAYERS, "num_heads": 4, "feedforward_dim": 32}
    return fuse(drawn(Decoder(channels, strides, 3, **(settings | options)))).double()


def make_maps(channels: list[int]) -> list[Tensor]:
    """From a level whose outermost cells have no valid anchor to one of few cells; not square."""
    generator = torch.Generator().manual_seed(1)
    sizes = [(64 >> level, 80 >> level) for level in range(len(channels))]
    return [
        torch.randn(2, width, *size, generator=generator, dtype=torch.float64) for width, size in zip(channels, sizes)
    ]


DECODERS: dict[str, tuple[list[int], list[int], dict[str, Any], list[bool]]] = {
    "as wide as it": ([16, 16], [8, 16], {}, [True, True]),
    "wider and narrower": ([32, 8], [8, 16], {}, [False, True]),
    "a level made from the last map": ([16, 16], [8, 16, 32], {}, [True, True, False]),
    "two levels made": ([16], [8, 16, 32], {}, [True, False, False]),
    "discrete": ([16, 16], [8, 16], {"sampling": "discrete", "num_points": [2, 3]}, [True, True]),
    "fewer layers than trained": ([16, 16], [8, 16], {"num_layers": 3, "eval_layers": 1}, [True, True]),
    "pairs compete": ([16, 16], [8, 16], {"selection": "one2many", "learnt_content": True}, [True, True]),
}


@pytest.mark.parametrize("sampler", ["grid", "gather"])
@pytest.mark.parametrize("name", DECODERS)
@torch.no_grad()
def test_the_answer_is_the_same_and_projections_that_save_no_work_stay(name: str, sampler: Sampler) -> None:
    channels, strides, options, folded = DECODERS[name]
    decoder, maps = make_decoder(channels, strides, **options), make_maps(channels)
    expected = decoder(maps)
    read_maps(decoder, sampler)
    answer = decoder(maps)
    assert torch.equal(answer.selected, expected.selected)
    torch.testing.assert_close(answer.prediction.logits, expected.prediction.logits)
    torch.testing.assert_close(answer.prediction.boxes, expected.prediction.boxes)
    assert [isinstance(each, nn.Identity) for each in decoder.input_projection.values()] == folded


@torch.no_grad()
def test_folding_saves_the_projections() -> None:
    decoder, maps = make_decoder([WIDTH, WIDTH], [8, 16]), make_maps([WIDTH, WIDTH])
    before = multiplications(decoder, maps)
    read_maps(decoder, "grid")
    cells = sum(each[:, 0].numel() for each in maps)
    assert before - multiplications(decoder, maps) == cells * WIDTH * WIDTH


@pytest.mark.parametrize(("width", "sampler"), [(128, "grid"), (144, "gather"), (256, "gather")])
def test_openvino_reads_long_rows_by_gathering(width: int, sampler: Sampler) -> None:
    assert openvino_sampler(Decoder([width], [8], 3, hidden_dim=width, num_heads=8)) == sampler


def multiplications(decoder: Decoder, maps: list[Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        decoder(maps)
    return counter.get_total_flops() // 2
