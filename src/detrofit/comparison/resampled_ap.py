"""COCO's AP of reweighted pictures, from matches made once: what a bootstrap over pictures needs thousands of times."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from detrofit.comparison.size_matching import FOUND, UNMATCHED, ClassMatches
from detrofit.evaluation.coco import IOU_THRESHOLDS, RECALL_POINTS, SIZES

MOST_IN_CHUNK = 1024  # resamples at a time; rows shorter than some hundred would cost more calls than sums
BLOCK = 16  # matches at a time, so that what is computed from them stays in the processor's cache
CHUNK_ELEMENTS = 2**25  # weights of a class's detections in memory at a time
_AT_50, _AT_75, _ALL_SIZES = 0, 5, 0
# COCO's recall points that are, as floats, above the hundredth that they stand for: reaching it does not reach them.
_ABOVE_HUNDREDTH = np.flatnonzero(np.arange(len(RECALL_POINTS)) / 100 < RECALL_POINTS)


@dataclass(frozen=True)
class ResampledAP:
    """AP of R reweightings, NaN where there is no object.

    Attributes:
        values: float64 `[R, 4, 10, C]` by size (all, small, medium, large), IoU threshold and class.
    """

    values: np.ndarray

    def summary(self, class_names: Sequence[str]) -> dict[str, np.ndarray]:
        """AP, AP50, AP75, AP_small, AP_medium, AP_large and `AP/CLASS` for each class, each float64 `[R]` in 0..1."""
        whole = self.values[:, _ALL_SIZES]
        numbers = {"AP": _mean(whole), "AP50": _mean(whole[:, _AT_50]), "AP75": _mean(whole[:, _AT_75])}
        numbers |= {f"AP_{size}": _mean(self.values[:, 1 + number]) for number, size in enumerate(SIZES)}
        return numbers | {f"AP/{name}": _mean(whole[..., label]) for label, name in enumerate(class_names)}


def resampled_ap(matches: Sequence[ClassMatches], weights: np.ndarray, threads: int = 1) -> ResampledAP:
    """AP when picture i counts `weights[r, i]` times, for each resample r.

    Equal to COCO's evaluator on a data set that holds each picture so many times, side by side; of detections with the
    very same score each stays with its copies, where COCO would alternate them.

    Args:
        matches: one a class, from `match_by_size`.
        weights: int `[R, N]`, not negative.
        threads: classes are worked on by so many threads.
    """
    counts = np.ascontiguousarray(weights.T, np.int32)
    values = np.full((len(weights), 4, len(IOU_THRESHOLDS), len(matches)), np.nan)

    def fill(label: int) -> None:
        chunk = min(MOST_IN_CHUNK, max(1, CHUNK_ELEMENTS // max(1, len(matches[label].image))))
        for start in range(0, len(weights), chunk):
            _fill_class(matches[label], counts[:, start : start + chunk], values[start : start + chunk, ..., label])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(len(matches))))
    return ResampledAP(values)


def bootstrap_weights(num_images: int, resamples: int, seed: int) -> np.ndarray:
    """int32 `[resamples, num_images]`: how often each picture is drawn, with replacement, `num_images` times."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples).astype(np.int32)


def _fill_class(matches: ClassMatches, counts: np.ndarray, values: np.ndarray) -> None:
    """Write AP `[R, 4, 10]` of a class into `values`; `counts` is `[N, R]`."""
    weights = counts[matches.image]
    for size, images in enumerate(matches.object_images):
        if not len(images):
            continue
        objects = counts[images].sum(axis=0)
        in_range = matches.in_range[size]
        running = _running_sums(weights[in_range])
        before = np.cumsum(in_range)
        for threshold, outcome in enumerate(matches.outcome[size]):
            events = np.flatnonzero(outcome != UNMATCHED)
            values[:, size, threshold] = _average_precision(
                weights, running, before, events, outcome[events] == FOUND, in_range[events], objects
            )


def _average_precision(
    weights: np.ndarray,
    running: np.ndarray,
    before: np.ndarray,
    events: np.ndarray,
    found: np.ndarray,
    in_range: np.ndarray,
    objects: np.ndarray,
) -> np.ndarray:
    """AP `[R]` from the E matched detections alone (`events`, best first, with their `found` and `in_range`).

    Interpolated precision is attained where an object is found, so that false detections matter only through how many
    lie before each match: all detections of the size up to there, `running[before]`, less the matched among them.
    """
    shape = (len(events), weights.shape[1])
    precision, steps = np.empty(shape), np.empty(shape, np.float32)
    hits = matched = np.zeros((1, shape[1]), np.int32)
    reached = np.full((1, shape[1]), -1.0)
    for start in range(0, len(events), BLOCK):
        block = slice(start, start + BLOCK)
        own = weights[events[block]]
        hits = _running_sums(own * found[block, None], hits[-1])
        matched = _running_sums(own * in_range[block, None], matched[-1])
        counted = hits[1:] + running[before[events[block]]] - matched[1:]
        precision[block] = hits[1:] / np.maximum(counted, 1)
        reached = np.concatenate([reached[-1:], _recall_points_reached(hits[1:], objects)])
        steps[block] = reached[1:] - reached[:-1]
    best, total = np.zeros(shape[1]), np.zeros(shape[1])
    for row in range(len(events) - 1, -1, -1):
        np.maximum(best, precision[row], out=best)
        total += best * steps[row]
    return np.where(objects > 0, total / len(RECALL_POINTS), np.nan)


def _running_sums(rows: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
    """int32 `[n + 1, R]`: `first` (or 0) and the sum up to each row, faster than cumsum along the first axis."""
    sums = np.empty((len(rows) + 1, rows.shape[1]), np.int32)
    sums[0] = 0 if first is None else first
    for position, row in enumerate(rows):
        np.add(sums[position], row, out=sums[position + 1])
    return sums


def _recall_points_reached(hits: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """float64 `[E, R]`: the position of the last of COCO's recall points that each recall reaches, compared as COCO
    compares them."""
    objects = np.maximum(objects, 1)
    reached = np.floor(hits * (100 / objects) + 1e-9)
    delicate = (objects[:, None] * _ABOVE_HUNDREDTH % 100 == 0).any(axis=1)
    reached[:, delicate] -= RECALL_POINTS[reached[:, delicate].astype(np.intp)] > hits[:, delicate] / objects[delicate]
    return reached


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of what is defined, over all but the first axis; NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    defined = ~np.isnan(flat)
    number = defined.sum(axis=1)
    return np.where(number > 0, np.where(defined, flat, 0).sum(axis=1) / np.maximum(number, 1), np.nan)
