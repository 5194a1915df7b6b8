"""Every kind of finding of the data check: its severity, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ERROR, WARNING, INFO = SEVERITIES = ("error", "warning", "info")
KEPT_EXAMPLES = 100

# An error is something that cannot be used as it is written, or that makes a measurement worthless; a warning is
# usable but suspicious; an info is worth knowing.
KINDS: dict[str, tuple[str, str]] = {
    "missing-image": (ERROR, "{} pictures are listed but do not exist"),
    "unreadable-image": (ERROR, "{} pictures cannot be decoded"),
    "size-mismatch": (ERROR, "{} pictures have another size than their labels say, so their boxes may be displaced"),
    "degenerate-box": (ERROR, "{} boxes have no area or are not finite; they are left out"),
    "outside-box": (ERROR, "{} boxes lie entirely outside their pictures; they are left out"),
    "unknown-class": (ERROR, "{} boxes have a class that the data set does not name; they are left out"),
    "malformed-label": (ERROR, "{} labels cannot be read; they are left out"),
    "not-normalised": (ERROR, "{} boxes are not normalised to 0..1; they are left out"),
    "orphan-annotation": (ERROR, "{} boxes belong to pictures that are not listed; they are left out"),
    "duplicate-image-id": (ERROR, "{} pictures have an id that is already taken; they are left out"),
    "category-conflict": (ERROR, "{} categories have different names in different splits"),
    "missing-split": (ERROR, "{} splits are named but their files do not exist"),
    "empty-split": (ERROR, "{} splits hold no picture that can be used"),
    "leak": (ERROR, "{} pictures are also in another split, byte for byte: its scores mean nothing"),
    "near-leak": (WARNING, "{} pictures look like one in another split"),
    "duplicate-image": (WARNING, "{} pictures are copies of another in the same split, byte for byte"),
    "near-duplicate-image": (INFO, "{} pictures look like another in the same split"),
    "clipped-box": (WARNING, "{} boxes reach over the edge of their pictures; they are clipped"),
    "tiny-box": (WARNING, "{} boxes are under 4 pixels wide or high at the training resolution"),
    "duplicate-box": (WARNING, "{} boxes repeat another of the same class"),
    "conflicting-box": (WARNING, "{} boxes repeat another of a different class"),
    "crowded-image": (WARNING, "{} pictures have over 300 objects, more than the usual number of queries"),
    "image-without-label": (WARNING, "{} pictures have no label file; they count as background"),
    "label-without-image": (WARNING, "{} label files have no picture"),
    "shared-label": (WARNING, "{} label files belong to several pictures, whose names differ in the ending only"),
    "class-count-mismatch": (WARNING, "{} class counts disagree with the list of names"),
    "similar-class-names": (WARNING, "{} class names differ in nothing but case or spaces from another"),
    "class-without-boxes": (WARNING, "{} classes have no box in any split"),
    "absent-class": (WARNING, "{} classes are missing from a split"),
    "rare-class": (WARNING, "{} classes have under 10 boxes to train on"),
    "class-imbalance": (WARNING, "{} classes have over 50 times fewer boxes than the most frequent one"),
    "no-split": (WARNING, "{} usual splits are not there"),
    "mostly-background": (WARNING, "{} splits are mostly pictures without objects"),
    "colour-mode": (WARNING, "{} pictures have unusual colours (CMYK or over 8 bits); they are converted"),
    "small-image": (WARNING, "{} pictures are under 32 pixels wide or high"),
    "enormous-image": (WARNING, "{} pictures have over 50 million pixels; decoding them takes long"),
    "blank-image": (WARNING, "{} pictures are of one colour"),
    "rotated-image": (INFO, "{} pictures are rotated by their EXIF tag, which is applied before boxes are placed"),
    "wrong-ending": (INFO, "{} pictures have another format than their names say"),
    "animated-image": (INFO, "{} pictures have several frames; the first is used"),
    "unlisted-image": (INFO, "{} pictures are in the folder but in no split"),
    "whole-image-box": (INFO, "{} boxes cover their whole picture"),
    "elongated-box": (INFO, "{} boxes are over 20 times longer than wide"),
    "crowd-box": (INFO, "{} boxes mark crowds or difficult objects; they are not trained on nor counted"),
}


@dataclass(frozen=True)
class Finding:
    """One kind of thing found: how severe, how often, and up to 100 places."""

    code: str
    severity: str
    message: str
    count: int
    examples: tuple[str, ...]


class Findings:
    """Collects findings of the same kind over splits, in the order of `KINDS`."""

    def __init__(self) -> None:
        self._examples: dict[str, list[str]] = {}
        self._counts: dict[str, int] = {}

    def add(self, code: str, examples: Sequence[str], count: int | None = None) -> None:
        """Note `count` (default: as many as `examples`) further cases of the kind `code`."""
        number = len(examples) if count is None else count
        if number:
            self._counts[code] = self._counts.get(code, 0) + number
            kept = self._examples.setdefault(code, [])
            kept += examples[: KEPT_EXAMPLES - len(kept)]

    def all(self) -> tuple[Finding, ...]:
        """What was found, errors first."""
        found = [
            Finding(code, severity, text.format(f"{self._counts[code]:,}"), self._counts[code], tuple(examples))
            for code, (severity, text) in KINDS.items()
            if (examples := self._examples.get(code)) is not None
        ]
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))
