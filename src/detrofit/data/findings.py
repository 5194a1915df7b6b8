"""Every kind of finding of the data check: its severity, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ERROR, WARNING, INFO = SEVERITIES = ("error", "warning", "info")
KEPT_EXAMPLES = 100

# An error is something that cannot be used as it is written, or that makes a measurement worthless; a warning is
# usable but suspicious; an info is worth knowing.
KINDS: dict[str, tuple[str, str]] = {
    "missing-image": (ERROR, "pictures that are listed but do not exist"),
    "unreadable-image": (ERROR, "pictures that cannot be decoded"),
    "size-mismatch": (ERROR, "pictures of another size than their labels say, so that boxes are displaced"),
    "degenerate-box": (ERROR, "boxes without area or with numbers that are not finite (left out)"),
    "outside-box": (ERROR, "boxes entirely outside their pictures (left out)"),
    "unknown-class": (ERROR, "boxes of a class that the data set does not name (left out)"),
    "malformed-label": (ERROR, "labels that cannot be read (left out)"),
    "not-normalised": (ERROR, "boxes not normalised to 0..1 (left out)"),
    "orphan-annotation": (ERROR, "boxes of pictures that are not listed (left out)"),
    "duplicate-image-id": (ERROR, "pictures with an id that is already taken (left out)"),
    "category-conflict": (ERROR, "categories with different names in different splits"),
    "missing-split": (ERROR, "splits that are named but whose files do not exist"),
    "empty-split": (ERROR, "splits without any picture that can be used"),
    "leak": (ERROR, "pictures that are also in another split, byte for byte, so that its scores mean nothing"),
    "near-leak": (WARNING, "pictures that look like one in another split"),
    "duplicate-image": (WARNING, "pictures that are in the same split already, byte for byte"),
    "near-duplicate-image": (INFO, "pictures that look like another in the same split"),
    "clipped-box": (WARNING, "boxes that reach over the edge of their pictures (clipped)"),
    "tiny-box": (WARNING, "boxes under 4 pixels wide or high at the training resolution"),
    "duplicate-box": (WARNING, "boxes that repeat another of the same class"),
    "conflicting-box": (WARNING, "boxes that repeat another of a different class"),
    "crowded-image": (WARNING, "pictures with over 300 objects, more than the usual number of queries"),
    "image-without-label": (WARNING, "pictures without a label file (used as background)"),
    "label-without-image": (WARNING, "label files without a picture"),
    "shared-label": (WARNING, "label files of several pictures, whose names differ in the ending only"),
    "class-count-mismatch": (WARNING, "class counts that disagree with the list of names"),
    "similar-class-names": (WARNING, "class names that differ from another in case or spaces only, if at all"),
    "class-without-boxes": (WARNING, "classes without a box in any split"),
    "absent-class": (WARNING, "classes missing from a split"),
    "rare-class": (WARNING, "classes with under 10 boxes to train on"),
    "class-imbalance": (WARNING, "classes with over 50 times fewer boxes than the most frequent one"),
    "no-split": (WARNING, "usual splits that are not there"),
    "mostly-background": (WARNING, "splits that are mostly pictures without objects"),
    "colour-mode": (WARNING, "pictures with unusual colours (CMYK, or over 8 bits a channel), which are converted"),
    "small-image": (WARNING, "pictures under 32 pixels wide or high"),
    "enormous-image": (WARNING, "pictures of over 50 million pixels, which take long to decode"),
    "blank-image": (WARNING, "pictures of a single colour"),
    "rotated-image": (INFO, "pictures turned by their EXIF tag, which is applied before boxes are placed"),
    "wrong-ending": (INFO, "pictures in another format than their names say"),
    "animated-image": (INFO, "pictures with several frames, of which the first is used"),
    "unlisted-image": (INFO, "pictures in the folder but in no split"),
    "whole-image-box": (INFO, "boxes around their whole picture"),
    "elongated-box": (INFO, "boxes over 20 times longer than wide"),
    "crowd-box": (INFO, "boxes of crowds or difficult objects, neither trained on nor counted"),
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
            Finding(code, severity, f"{text}: {self._counts[code]:,}", self._counts[code], tuple(examples))
            for code, (severity, text) in KINDS.items()
            if (examples := self._examples.get(code)) is not None
        ]
        return tuple(sorted(found, key=lambda finding: SEVERITIES.index(finding.severity)))
