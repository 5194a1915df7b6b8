"""Which precision is worth its losses on this machine: the same network in several, timed in turns."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.deployment.turns import Spread, spread, take_turns
from detrofit.runtime.backends import Backend, open_backend

MOST_ROUNDS, SECONDS = 30, 20.0
AS_FAST = 1.05  # times of another precision, up to which nobody would notice


@dataclass(frozen=True)
class Precisions:
    """Milliseconds of one picture through the network alone in each precision, by its name, from the same rounds.

    Attributes:
        milliseconds: of `float32`, and of `bf16`, `float16` or `int8` where they were timed.
        of_float32: the time over that of float32, round by round.
        half_of_int8: the time in half precision over that of INT8, round by round; None unless both were timed.
        half_name: bf16 or float16; None without it.
    """

    milliseconds: dict[str, Spread]
    of_float32: dict[str, Spread]
    half_of_int8: Spread | None
    half_name: str | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> list[str]:
        """What a person should know before choosing, a line a fact."""
        lines = [
            f"{name} takes {each.median:.2f} of the time of float32 here ({each.low:.2f} to {each.high:.2f})"
            for name, each in self.of_float32.items()
        ]
        if self.half_of_int8 is not None and self.half_of_int8.median <= AS_FAST:
            lines.append(
                f"{self.half_name} is as fast as INT8 on this machine ({self.half_of_int8.median:.2f} of its time) and "
                "needs no calibration: export with --half instead"
            )
        int8 = self.of_float32.get("int8")
        if int8 is not None and int8.high >= 1:
            lines.append("INT8 is no faster than float32 on this machine")
        return lines


def time_precisions(float_file: Path, file: Path, half_name: str | None) -> Precisions:
    """Time a float32 export and a smaller one of the same network; beside INT8 also the float32 one in half precision,
    where `half_name` says that the runtime can do that."""
    smaller = open_backend(file, "cpu")
    opened = {"float32": open_backend(float_file, "cpu", half=False)}
    if smaller.description.precision == "int8":  # type: ignore[attr-defined]
        if half_name is not None:
            opened[half_name] = open_backend(float_file, "cpu", half=True)
        opened["int8"] = smaller
    else:
        opened[half_name or "float16"] = smaller
    return compare_precisions(opened, half_name)


def compare_precisions(backends: Mapping[str, Backend], half_name: str | None) -> Precisions:
    """Time backends in turns, by the name of their precision, each on as many pictures as it takes at once."""
    plain = backends["float32"]
    pictures = np.random.default_rng(0).integers(0, 256, (plain.batch or 1, *plain.input_size, 3), np.uint8)
    runs = [partial(_milliseconds, backend, pictures) for backend in backends.values()]
    samples = take_turns(runs, MOST_ROUNDS, seconds=SECONDS)[..., 0]
    columns = dict(zip(backends, samples.T, strict=True))
    half = columns.get(half_name or "")
    return Precisions(
        {name: spread(each) for name, each in columns.items()},
        {name: spread(each / columns["float32"]) for name, each in columns.items() if name != "float32"},
        spread(half / columns["int8"]) if half is not None and "int8" in columns else None,
        half_name,
    )


def _milliseconds(backend: Backend, pictures: np.ndarray) -> tuple[float]:
    started = time.perf_counter()
    backend(pictures)
    return (1e3 * (time.perf_counter() - started) / len(pictures),)
