"""Records of runs as the worker writes them, drawn instead of trained."""

from __future__ import annotations

from collections.abc import Sequence
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
        "code": "0",
        "status": "done",
        "val_AP": ap,
        "curve": [[1, ap / 2], [2, ap]],
        "test": {name: float(ap + own[0]) for name in METRICS},
        "resamples": pack_resamples(values),
        "test_pictures": 50,
        "parameters": 1_000_000 + 1000 * len(variant),
        "gflops": 2.0,
        "file_bytes": 4_000_000,
        "train_seconds_per_picture": 0.02,
        "peak_memory_bytes": 900_000_000,
        "predictions": f"runs/{variant}-seed{seed}/predictions_test.json.gz",
        "start": {
            "pretrained": "nothing",
            "kept_share_of_parameters": 0.0,
            "warm_started_parts": 0,
            "lr": 5e-4,
            "backbone_lr_factor": 1.0,
            "steps": 40,
        },
        "machine": {"processor": "drawn", "cores": 2, "threads": 1, "device": "cpu", "precision": "fp32"},
        "experiment": {},
        "seconds": 60.0,
    }


def make_latency(names: Sequence[str]) -> dict[str, Any]:
    """A measurement of such variants, the base first, with each runtime."""

    def spread(value: float) -> dict[str, float]:
        return {"median": value, "low": 0.98 * value, "high": 1.03 * value, "p90": 1.1 * value}

    files = [
        {
            "variant": name,
            "runtime": runtime,
            "precision": "float32",
            "input_size": [64, 64],
            "megabytes": 4.0,
            "ratio": spread((5 + place) / 5),
            "model": spread(factor * (4.8 + place)),
            "total": spread(factor * (5.0 + place)),
            "trained": True,
        }
        for runtime, factor in (("torch", 1.0), ("onnxruntime", 0.6), ("openvino", 0.5))
        for place, name in enumerate(names)
    ]
    head = {"source": "study", "identity": "0", "date": "2026-11-25", "rounds": 50, "warm_up": 2, "batch": 1}
    return {**head, "machine": {"processor": "drawn", "cores": 2, "torch_threads": 1}, "notes": [], "files": files}


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
        "latency": [make_latency([name for name in scores if kinds.get(name) != "external"])],
        "runs": [make_record(name, seed, score) for seed in range(seeds) for name, score in scores.items()],
    }
