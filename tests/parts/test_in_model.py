"""Every part in its slots of the whole nano model: it builds, trains, and comes back from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.config.models import build
from detrofit.errors import DetrofitError
from detrofit.model.detector import RTDETR
from detrofit.parts.registry import all_parts, get_part, parts_for
from detrofit.parts.slots import BACKBONE, ENCODER_FUSION, LOSS_BOX, SLOTS, STAGE_BLOCK, STAGE_DOWNSAMPLE, Slot
from detrofit.parts.trials import Place
from detrofit.weights.model_file import ModelInfo, load_model, save_model

IMAGE_SIZE = (64, 64)
FEW_QUERIES = {"num_queries": 20, "max_detections": 20, "num_denoising": 10}
STEPS = 10
LEARNING_RATE = 2e-3  # high, so that the fall is larger than what rematching of queries adds
TARGETS = [
    {"labels": torch.tensor([0, 2]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.1, 0.4]])},
    {"labels": torch.tensor([1]), "boxes": torch.tensor([[0.6, 0.5, 0.6, 0.3]])},
]


def _places(every_slot: bool) -> list[Any]:
    """Every part in the first slot that it fits, or in all of them; of several stages the last."""
    return [
        pytest.param(place, id=f"{place.part.name}-{_address(slot)}")
        for part in all_parts()
        for slot in (part.fits if every_slot else part.fits[:1])
        for place in [Place(part, slot)]
    ]


def _representatives() -> list[Any]:
    """One part in some of the slots, the last one by name."""
    slots = (BACKBONE, STAGE_BLOCK, STAGE_DOWNSAMPLE, ENCODER_FUSION, LOSS_BOX)
    by_slot = {slot: Place(part, slot) for part in all_parts() for slot in part.fits if slot in slots}
    return [pytest.param(place, id=f"{place.part.name}-{_address(slot)}") for slot, place in by_slot.items()]


def _address(slot: Slot) -> str:
    return slot.address({"stage": 4})


def _model(place: Place, **settings: Any) -> RTDETR:
    retrofit = {_address(place.slot): {"part": place.part.name, **place.options}}
    return build("rtdetr-n", retrofit, num_classes=3, settings={**FEW_QUERIES, **settings})


def _images() -> torch.Tensor:
    return torch.rand(2, 3, *IMAGE_SIZE, generator=torch.Generator().manual_seed(0))


def _loss(model: RTDETR) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in range(2)]
    output = model(_images(), TARGETS, generators=generators)
    return torch.stack(list(model.criterion(output, TARGETS, IMAGE_SIZE).values())).sum()


@pytest.mark.parametrize("place", _places(every_slot=False))
def test_a_step(place: Place) -> None:
    _check_a_step(place)


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (16, 32), (32,)], ids=str)
@pytest.mark.parametrize("name", [part.name for part in parts_for(ENCODER_FUSION)])
def test_other_levels(name: str, strides: tuple[int, ...]) -> None:
    model = _model(Place(get_part(name), ENCODER_FUSION), strides=strides).train()
    loss = _loss(model)
    loss.backward()
    assert loss.isfinite()
    assert [level.shape[-1] for level in model.maps(_images())] == [IMAGE_SIZE[1] // stride for stride in strides]
    for projection in model.encoder.input_projection.values():
        assert projection.conv.weight.grad.any(), "a level that teaches nothing"


@pytest.mark.slow
@pytest.mark.parametrize("place", _places(every_slot=True))
def test_a_step_in_every_slot(place: Place) -> None:
    _check_a_step(place)


@pytest.mark.parametrize("place", _representatives())
def test_learns_and_returns_from_its_file(place: Place, tmp_path: Path) -> None:
    _check_learning(place, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("place", _places(every_slot=True))
def test_learns_and_returns_from_its_file_in_every_slot(place: Place, tmp_path: Path) -> None:
    _check_learning(place, tmp_path)


@settings(max_examples=6)
@given(data=st.data())
def test_any_three_parts_together(data: st.DataObject) -> None:
    _check_three(data)


@pytest.mark.slow
@settings(max_examples=100)
@given(data=st.data())
def test_any_three_parts_together_more(data: st.DataObject) -> None:
    _check_three(data)


def _check_three(data: st.DataObject) -> None:
    """Three swaps in different slots: a step, or the error that says which swap removed the slot of another."""
    slots = data.draw(st.lists(st.sampled_from(SLOTS), min_size=3, max_size=3, unique_by=_address))
    places = [Place(data.draw(st.sampled_from(parts_for(slot))), slot) for slot in slots]
    retrofit = {_address(place.slot): {"part": place.part.name, **place.options} for place in places}
    try:
        model = build("rtdetr-n", retrofit, num_classes=3, settings=FEW_QUERIES)
    except DetrofitError as error:
        if "does not have it" in str(error):
            return
        raise
    loss = _loss(model.train())
    loss.backward()
    assert loss.isfinite()


def _check_a_step(place: Place) -> None:
    model = _model(place).train()
    assert model.slots[_address(place.slot)]["part"] == place.part.name
    loss = _loss(model)
    loss.backward()
    assert loss.isfinite()
    unused = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert not unused, f"parameters without a gradient: {unused[:3]}"


def _check_learning(place: Place, folder: Path) -> None:
    torch.manual_seed(0)  # for the dropout of some parts
    model = _model(place).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(STEPS):
        loss = _loss(model)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-3:]) < sum(losses[:3]), f"the loss did not fall: {losses}"
    file = folder / "model.safetensors"
    save_model(file, model, ModelInfo("rtdetr-n", ("a", "b", "c"), (1, 2, 3), IMAGE_SIZE))
    loaded = load_model(file)
    with torch.no_grad():
        expected, actual = model.eval()(_images()).prediction, loaded.eval()(_images()).prediction
    torch.testing.assert_close(actual.boxes, expected.boxes)
    torch.testing.assert_close(actual.logits, expected.logits)
