"""The generated page of every part: what it is, where it fits, its paper and licence, and a meaning for each option."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from detrofit.parts.options import option_rows
from detrofit.parts.registry import Part, all_parts, get_part

HOOK = Path(__file__).parents[2] / "docs" / "hooks" / "part_pages.py"
# What circulates under these names is not the paper's module, or there are two codes of the paper.
TWO_VERSIONS = (
    "uib", "mqa", "fasternet-block", "pki", "caa", "sba", "bifpn", "nwd", "shape-nwd", "spd", "lae", "efficientnet",
)  # fmt: skip
SAYS_WHICH = ("circulate", "of the paper", "original", "two codes")

every_part = pytest.mark.parametrize("part", list(all_parts()), ids=lambda part: part.name)


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("part_pages", HOOK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@every_part
def test_a_page_states_what_the_part_is(part: Part, pages: ModuleType) -> None:
    page = pages.part_page(part)
    assert page.startswith(f"# {part.name}\n")
    for slot in part.fits:
        assert f"`{slot.pattern.replace('{stage}', 'N')}`" in page
    if part.name != "none":
        assert "| paper | [" in page and "| original and its licence | " in page
    assert f"--swap {pages.example_swap(part)}" in page


@every_part
def test_a_page_tells_what_every_option_means(part: Part, pages: ModuleType) -> None:
    rows = [line.strip("| ").split(" | ") for line in pages.part_page(part).splitlines() if line.startswith("| `")]
    assert [row[0] for row in rows] == [f"`{option.name}`" for option in option_rows(part.options)]
    assert not [row[0] for row in rows if len(row) < 4 or not row[3]]


@pytest.mark.parametrize("name", TWO_VERSIONS)
def test_a_page_says_which_of_two_versions_it_is(name: str, pages: ModuleType) -> None:
    page = pages.part_page(get_part(name))
    assert any(words in page.split("| | |")[0] for words in SAYS_WHICH)


def test_the_overview_links_every_page(pages: ModuleType) -> None:
    overview = pages.overview(list(all_parts()), {})
    for part in all_parts():
        assert f"| [{part.name}]({part.name}.md) | " in overview
