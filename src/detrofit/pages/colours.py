"""The colours of pages and figures, for light and dark: each is stated here once, and figures draw with the light one.

Series colours keep 3:1 against the paper and stay apart for eyes without one kind of cone (tests/pages hold it).
"""

from __future__ import annotations

from dataclasses import dataclass

# name: (light, dark); as CSS variables `--name`. All light values differ, so that a figure's can be told by its colour.
THEME = {
    "paper": ("#ffffff", "#14171a"),
    "panel": ("#f5f6f7", "#1c2125"),
    "ink": ("#1b1f23", "#e7eaec"),
    "soft": ("#5b656e", "#a0aab3"),
    "line": ("#dde1e5", "#343b41"),
    "good": ("#0b5cad", "#6db8f8"),
    "bad": ("#b03a05", "#ff9466"),
    "zone": ("#ebedf0", "#252b30"),
}
SERIES = (
    ("#4a5560", "#c3ccd5"),  # what all others are compared with
    ("#0a6cd6", "#3fa9f5"),
    ("#dd5412", "#ee6230"),
    ("#0c9a70", "#0f9468"),
    ("#c9569f", "#dc5fb4"),
    ("#6e4210", "#f2c383"),
    ("#42176b", "#8f55f0"),
)
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Series:
    """Something that has the same colour, marker and dash in all figures and tables of a page.

    Attributes:
        name: in full.
        number: its place; 0 is what the others are compared with. Past the palette's end colours come again with
            another marker and dash.
        note: what it is beside its name, as "control".
    """

    name: str
    number: int
    note: str = ""

    @property
    def slot(self) -> int:
        """Its place in the palette; grey is for the first alone."""
        return 0 if self.number == 0 else 1 + (self.number - 1) % (len(SERIES) - 1)

    @property
    def colour(self) -> str:
        """Its colour on light paper, as `#rrggbb`."""
        return SERIES[self.slot][0]

    @property
    def marker(self) -> str:
        """In matplotlib's letters."""
        return _MARKERS[self.number % len(_MARKERS)]

    @property
    def dash(self) -> str:
        """In matplotlib's letters."""
        return _DASHES[max(0, self.number - 1) // (len(SERIES) - 1) % len(_DASHES)]


def css_variables() -> dict[str, tuple[str, str]]:
    """Every colour by the name of its CSS variable: (light, dark)."""
    return {f"--{name}": pair for name, pair in THEME.items()} | {
        f"--series{number}": pair for number, pair in enumerate(SERIES)
    }


def ink(name: str) -> str:
    """The light value of a colour of the theme, to draw with; a page's dark mode exchanges it."""
    return THEME[name][0]
