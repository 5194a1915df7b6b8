"""One battery for every registered part, in every slot that it fits."""

from __future__ import annotations

import pytest

from detrofit.model.fuse import fuse
from detrofit.parts.checks import CHECKS, Check, checks_of, merging, run_check
from detrofit.parts.registry import all_parts
from detrofit.parts.trials import Place

BATTERY = [
    pytest.param(place, check, id=f"{place.part.name}-{place.address}-{check.name.replace(' ', '_')}")
    for part in all_parts()
    for place, check in checks_of(part, (*CHECKS, merging(fuse)))
]


@pytest.mark.parametrize(("place", "check"), BATTERY)
def test_part(place: Place, check: Check) -> None:
    failure = run_check(place, check).failure
    assert failure is None, f"{place.part.name} in {place.address}: {check.name}: {failure}"
