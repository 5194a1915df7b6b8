"""A study's results as the parts of a report read them: who is who, in which colour, and numbers in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from detrofit.comparison.analysis import Results
from detrofit.comparison.latencies import HERE, Measurement
from detrofit.pages.colours import Series

KIND_WORDS = {"control": "control", "external": "trained elsewhere"}
RUNTIME_WORDS = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
NOTHING = "–"


@dataclass(frozen=True)
class Content:
    """The results of one study, or of several that were joined."""

    results: Results

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All variants, the base first."""
        return list(self.results["variants"])

    @property
    def base(self) -> dict[str, Any]:
        """What all are compared with."""
        return self.lines[0]

    @cached_property
    def by_name(self) -> dict[str, dict[str, Any]]:
        """The variants by name."""
        return {line["name"]: line for line in self.lines}

    @cached_property
    def series(self) -> dict[str, Series]:
        """Each variant's colour and marker, the same in all figures and tables."""
        return {
            line["name"]: Series(line["name"], number, KIND_WORDS.get(line["kind"], ""))
            for number, line in enumerate(self.lines)
        }

    @cached_property
    def comparisons(self) -> list[dict[str, Any]]:
        """The comparisons with the base, in the order of the variants."""
        order = list(self.by_name)
        return sorted(self.results["comparisons"], key=lambda each: order.index(each["name"]))

    def runs(self, name: str) -> list[dict[str, Any]]:
        """The finished runs of a variant, by seed."""
        own = [run for run in self.results["runs"] if run["variant"] == name and run["status"] == "done"]
        return sorted(own, key=lambda run: int(run["seed"]))

    @property
    def measurements(self) -> list[Measurement]:
        """All latencies, those of the study's own machine first."""
        return sorted(self.results.get("latency", []), key=lambda each: bool(each["source"] != HERE))

    def latencies(self) -> dict[tuple[str, str], dict[str, dict[str, Any]]]:
        """By (source, runtime) the timed files by variant, in the order of `measurements`; a runtime is followed by its
        precision unless that is float32."""
        found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        for measurement in self.measurements:
            for file in measurement["files"]:
                if file["variant"] in self.by_name:
                    precision = file.get("precision", "float32")
                    how = file["runtime"] + (f" {precision}" if precision != "float32" else "")
                    found.setdefault((measurement["source"], how), {})[file["variant"]] = file
        return found


def signed(value: float, digits: int = 2) -> str:
    """With its sign, a real minus, and no negative zero."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def plain(value: float, digits: int = 1) -> str:
    """With a real minus."""
    return f"{value:.{digits}f}".replace("-", "−")


def interval_words(interval: tuple[float, float] | list[float], digits: int = 2) -> str:
    """From and to."""
    low, high = interval
    return f"{signed(low, digits)} to {signed(high, digits)}"


def p_words(value: float) -> str:
    """A p to two digits, or that it is very small."""
    return "< 0.001" if value < 0.001 else f"{value:.2g}"


def runtime_words(source: str, runtime: str) -> str:
    """A runtime, and where it was timed unless that was the study's own machine."""
    name, _, precision = runtime.partition(" ")
    words = f"{RUNTIME_WORDS.get(name, name)} {precision}".strip()
    return words if source == HERE else f"{words}, {source}"
