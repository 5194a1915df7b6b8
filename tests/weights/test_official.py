"""Names of official checkpoints: both versions, every backbone, frozen norms, and what no official model has."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detrofit import build
from detrofit.config.models import model_names
from detrofit.errors import DetrofitError
from detrofit.weights.contents import Beside
from detrofit.weights.foreign import _from_official
from detrofit.weights.names import NameMap, conv_and_norm, strides_of
from detrofit.weights.official import from_official
from detrofit.weights.transfer import transfer
from tests.weights.layouts import official

NORM = ("weight", "bias", "running_mean", "running_var")


def test_version_2_and_frozen_norms() -> None:
    state = {f"backbone.conv1.conv1_1.norm.{entry}": torch.ones(2) for entry in NORM}
    state |= {f"encoder.input_proj.{level}.conv.weight": torch.ones(2) for level in range(3)}
    state |= {f"encoder.input_proj.1.norm.{entry}": torch.ones(2) for entry in NORM}
    state |= {"decoder.enc_output.proj.weight": torch.ones(2), "decoder.anchors": torch.ones(2)}
    ours = from_official(state)
    assert ours.keys() == {
        *(f"backbone.stem.conv1.norm.{entry}" for entry in (*NORM, "num_batches_tracked")),
        *(f"encoder.input_projection.stride{stride}.conv.weight" for stride in (8, 16, 32)),
        *(f"encoder.input_projection.stride16.norm.{entry}" for entry in (*NORM, "num_batches_tracked")),
        "decoder.query_selection.projection.weight",
    }


@pytest.mark.parametrize("name", ["encoder.input_proj.999999999.0.weight", f"decoder.decoder.layers.{'9' * 5000}.w"])
def test_numbers_beyond_any_model_cost_nothing(name: str) -> None:
    with pytest.raises(DetrofitError, match="is no entry of an official RT-DETR"):
        from_official({name: torch.ones(1)})


@pytest.mark.parametrize(
    "name",
    ["backbone.stages.0.blocks.0.lab.scale", "encoder.gate.weight", "criterion.weight", "encoder.lateral_convs.7.w"],
)
def test_names_of_no_official_model_are_reported(name: str) -> None:
    with pytest.raises(DetrofitError, match=f"'{name}' is no entry of an official RT-DETR"):
        from_official({"encoder.input_proj.2.0.weight": torch.ones(1), name: torch.ones(1)})


def test_levels_are_known_by_their_stride() -> None:
    state: dict[str, Tensor] = {f"encoder.input_proj.{level}.0.weight": torch.ones(8, 8) * level for level in range(3)}
    ours = from_official(state)
    assert ours["encoder.input_projection.stride32.conv.weight"][0, 0] == 2
    assert strides_of(4) == [4, 8, 16, 32]


def test_a_checkpoint_of_three_levels_starts_a_model_of_four() -> None:
    model = build("rtdetr-n", num_classes=2, settings={"strides": [4, 8, 16, 32]})
    own = model.encoder.input_projection["stride8"].conv.weight
    state = {f"encoder.input_proj.{level}.0.weight": torch.full_like(own, level) for level in range(3)}
    transfer(model, dict(from_official(state)), ["a", "b"], ["a", "b"])
    assert torch.equal(own, torch.zeros_like(own))


def test_map_takes_the_first_pair_and_returns_by_it() -> None:
    names = NameMap(
        [*conv_and_norm("a.{level}.", "b.stride{level}.", "0", "1"), *conv_and_norm("a.{level}.", "b.stride{level}.")],
        (8, 16),
    )
    assert names.ours("a.1.0.weight") == names.ours("a.1.conv.weight") == "b.stride16.conv.weight"
    assert names.theirs("b.stride16.conv.weight") == "a.1.0.weight"
    assert names.ours("a.2.0.weight") is None and names.theirs("b.stride32.conv.weight") is None


QUICK = ("rtdetr-r34", "rtdetr-r50m", "rtdetr-x", "rtdetrv2-r101", "rtdetrv2-h")
NAMES = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in model_names()
    if name not in ("rtdetr-n", "rtdetr-s")
]


@pytest.mark.parametrize("name", NAMES)
def test_every_published_model_is_recognised(name: str) -> None:
    with torch.device("meta"):
        own = build(name, num_classes=80).state_dict()
        state = official(own, version=2 if name.startswith("rtdetrv2-") else 1)
    content = {"ema": {"module": state}, "model": {}} if name.startswith("rtdetrv2-") else {"model": state}
    found = _from_official(content, Beside())
    assert found is not None and found.model == name and not found.settings
    assert all(found.state[key] is tensor for key, tensor in own.items() if not key.endswith("num_batches_tracked"))
    assert found.names[0] == "person" and found.licence.startswith("Apache-2.0")


def test_learnt_queries_are_recognised() -> None:
    with torch.device("meta"):
        state = official(build("rtdetr-r18", num_classes=80).state_dict())
        state["decoder.tgt_embed.weight"] = torch.zeros(150, 256)
    found = _from_official({"model": state}, Beside())
    assert found is not None and found.settings == {"learnt_queries": True, "num_queries": 150}


@pytest.mark.parametrize("points", [[3, 6, 3], [2, 2, 2]])
def test_points_are_recognised_where_shapes_tell_only_their_sum(points: list[int]) -> None:
    with torch.device("meta"):
        state = official(build("rtdetr-r18", num_classes=80, settings={"points": points}).state_dict(), version=2)
    scale = torch.tensor([1 / count for count in points for _ in range(count)])
    state |= {name: scale for name in state if name.endswith("num_points_scale")}
    found = _from_official({"model": state}, Beside())
    assert found is not None and found.settings == {"points": points if len(set(points)) > 1 else points[:1]}


@pytest.mark.parametrize("scale", [torch.zeros(12), torch.full((12,), float("nan")), torch.ones(12), torch.rand(2000)])
def test_a_scale_of_no_points_is_no_trouble(scale: Tensor) -> None:
    with torch.device("meta"):
        state = official(build("rtdetr-r18", num_classes=80).state_dict(), version=2)
    state["decoder.decoder.layers.0.cross_attn.num_points_scale"] = scale
    found = _from_official({"model": state}, Beside())
    assert found is not None and found.settings == {}


def test_agnostic_selection_is_recognised() -> None:
    with torch.device("meta"):
        settings = {"query_selection": "agnostic"}
        state = official(build("rtdetr-r18", num_classes=80, settings=settings).state_dict())
    found = _from_official({"model": state}, Beside())
    assert found is not None and found.settings == settings
