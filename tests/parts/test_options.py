from __future__ import annotations

from detrofit.parts.options import option_rows
from detrofit.parts.registry import all_parts, get_part


def test_ranges_and_defaults_are_told_in_words():
    rows = {row.name: row for row in option_rows(get_part("extradw").options)}
    assert rows["expand"].default == "4.0"
    assert rows["expand"].allowed == "number > 0, <= 8"
    assert "hidden width" in rows["expand"].meaning
    assert rows["start_kernel"].allowed == "3, 5, 7"
    assert rows["layer_scale"].default == "none" and "none" in rows["layer_scale"].allowed
    assert rows["residual"].allowed == "true, false"


def test_every_part_can_be_described():
    for part in all_parts():
        for row in option_rows(part.options):
            assert row.default and row.allowed, f"{part.name}.{row.name}"
