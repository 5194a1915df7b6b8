"""Records of runs as the worker writes them, drawn instead of trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from detrofit.comparison.jobs import pack_resamples
from detrofit.version import __version__

METRICS = ("AP", "AP50", "AP75", "AP_large", "AP/cat")


def make_record(variant: str, seed: int, ap: float, identity: str | None = None) -> dict[str, Any]:
    """A finished run whose AP in 0..1 varies a little over seeds and resampled pictures."""
    shared = np.random.default_rng(0).normal(0, 0.01, 200)  # pictures that are easy or hard for all
    own = np.random.default_rng([seed, len(variant)]).normal(0, 0.002, 201)
    values = {name: np.clip(ap + shared + own[1:], 0, 1) for name in METRICS}
    return {
        "variant": variant,
        "seed": seed,
        "identity": identity or f"{variant}-{seed}",
        "detrofit": __version__,
        "status": "done",
        "val_AP": ap,
        "curve": [[1, ap / 2], [2, ap]],
        "test": {name: float(ap + own[0]) for name in METRICS},
        "resamples": pack_resamples(values),
        "test_pictures": 50,
        "parameters": 1_000_000 + 1000 * len(variant),
        "gflops": 2.0,
        "file_bytes": 4_000_000,
        "latency_ms": 5.0 + len(variant),
        "threads": 1,
        "experiment": {},
        "seconds": 60.0,
    }


def make_results(scores: dict[str, float], seeds: int = 6, kinds: dict[str, str] | None = None) -> dict[str, Any]:
    """What `analyse` is given: the base and variants with such mean scores; kinds default to variants."""
    kinds = {"base": "base", **(kinds or {})}
    return {
        "format": 1,
        "detrofit": __version__,
        "study": "drawn <study>",
        "data": {"name": "data.yaml", "digest": "0", "classes": ["cat"]},
        "settings": {"margin": 0.5, "seeds": list(range(seeds)), "resamples": 200, "test_split": "test", "alpha": 0.05},
        "notes": [],
        "machine": "none",
        "variants": [
            {"name": name, "kind": kinds.get(name, "variant"), "changes": {"loss.box": name}, "changed_settings": []}
            for name in scores
        ],
        "runs": [make_record(name, seed, score) for seed in range(seeds) for name, score in scores.items()],
    }
