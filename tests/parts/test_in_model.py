"""Every part in its slots of the whole nano model: it builds, trains, and comes back from a file."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.errors import DetrofitError
from detrofit.parts.check import Check
from detrofit.parts.checks import run_check
from detrofit.parts.registry import all_parts, get_part, parts_for
from detrofit.parts.slots import BACKBONE, ENCODER_FUSION, LOSS_BOX, SLOTS, STAGE_BLOCK, STAGE_DOWNSAMPLE
from detrofit.parts.trials import Place
from detrofit.training.part_check import (
    IMAGE_SIZE,
    IN_MODEL,
    address_in_model,
    fixed_loss,
    fixed_pictures,
    model_with,
    small_model,
)


def _places(every_slot: bool) -> list[Any]:
    """Every part in the first slot that it fits, or in all of them; of several stages the last."""
    return [
        pytest.param(place, id=f"{place.part.name}-{address_in_model(slot)}")
        for part in all_parts()
        for slot in (part.fits if every_slot else part.fits[:1])
        for place in [Place(part, slot)]
    ]


def _representatives() -> list[Any]:
    """One part in some of the slots, the last one by name."""
    slots = (BACKBONE, STAGE_BLOCK, STAGE_DOWNSAMPLE, ENCODER_FUSION, LOSS_BOX)
    by_slot = {slot: Place(part, slot) for part in all_parts() for slot in part.fits if slot in slots}
    return [pytest.param(place, id=f"{place.part.name}-{address_in_model(slot)}") for slot, place in by_slot.items()]


every_check = pytest.mark.parametrize("check", IN_MODEL, ids=lambda check: check.name.replace(" ", "_"))


@pytest.mark.parametrize("place", _places(every_slot=False))
def test_a_step(place: Place) -> None:
    _check_a_step(place)


@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (16, 32), (32,)], ids=str)
@pytest.mark.parametrize("name", [part.name for part in parts_for(ENCODER_FUSION)])
def test_other_levels(name: str, strides: tuple[int, ...]) -> None:
    model = model_with(Place(get_part(name), ENCODER_FUSION), strides=strides).train()
    loss = fixed_loss(model)
    loss.backward()
    assert loss.isfinite()
    sides = [level.shape[-1] for level in model.maps(fixed_pictures())]
    assert sides == [IMAGE_SIZE[1] // stride for stride in strides]
    for projection in model.encoder.input_projection.values():
        assert projection.conv.weight.grad.any(), "a level that teaches nothing"


@pytest.mark.slow
@pytest.mark.parametrize("place", _places(every_slot=True))
def test_a_step_in_every_slot(place: Place) -> None:
    _check_a_step(place)


@every_check
@pytest.mark.parametrize("place", _representatives())
def test_learns_and_returns_from_its_file(place: Place, check: Check) -> None:
    assert run_check(place, check).failure is None


@pytest.mark.slow
@every_check
@pytest.mark.parametrize("place", _places(every_slot=True))
def test_learns_and_returns_from_its_file_in_every_slot(place: Place, check: Check) -> None:
    assert run_check(place, check).failure is None


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
    slots = data.draw(st.lists(st.sampled_from(SLOTS), min_size=3, max_size=3, unique_by=address_in_model))
    places = [Place(data.draw(st.sampled_from(parts_for(slot))), slot) for slot in slots]
    retrofit = {address_in_model(place.slot): {"part": place.part.name, **place.options} for place in places}
    try:
        model = small_model(retrofit)
    except DetrofitError as error:
        if "does not have it" in str(error):
            return
        raise
    loss = fixed_loss(model.train())
    loss.backward()
    assert loss.isfinite()


def _check_a_step(place: Place) -> None:
    model = model_with(place).train()
    assert model.slots[address_in_model(place.slot)]["part"] == place.part.name
    loss = fixed_loss(model)
    loss.backward()
    assert loss.isfinite()
    unused = [
        name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert not unused, f"parameters without a gradient: {unused[:3]}"
