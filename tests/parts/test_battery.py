"""One battery for every registered part, in every slot that it fits."""

from __future__ import annotations

import pytest

from detrofit.deployment.part_check import EXPORTS
from detrofit.model.fuse import fuse
from detrofit.parts.check import Check
from detrofit.parts.checks import CHECKS, checks_of, merging, run_check
from detrofit.parts.registry import Part, all_parts
from detrofit.parts.slots import BACKBONE, LOSS_BOX
from detrofit.parts.trials import Place


def _slow(place: Place, check: Check) -> bool:
    """Whole backbones take seconds to export; of the stock one that is known soon."""
    return check is EXPORTS and place.slot is BACKBONE and place.part.name != "resnet-vd"


BATTERY = [
    pytest.param(
        place,
        check,
        id=f"{place.part.name}-{place.address}-{check.name.replace(' ', '_')}",
        marks=[pytest.mark.slow] if _slow(place, check) else [],
    )
    for part in all_parts()
    for place, check in checks_of(part, (*CHECKS, merging(fuse), EXPORTS))
]


@pytest.mark.parametrize(("place", "check"), BATTERY)
def test_part(place: Place, check: Check) -> None:
    failure = run_check(place, check).failure
    assert failure is None, f"{place.part.name} in {place.address}: {check.name}: {failure}"


@pytest.mark.parametrize("part", [part for part in all_parts() if part.name != "none"], ids=lambda part: part.name)
def test_the_file_states_what_the_page_shows(part: Part) -> None:
    assert part.paper and part.licence
    if LOSS_BOX in part.fits:
        assert isinstance(getattr(Place(part, LOSS_BOX).build(), "symmetric", None), bool)
