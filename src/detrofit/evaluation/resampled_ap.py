"""COCO's AP of reweighted pictures, from matches made once: what a bootstrap over pictures needs thousands of times."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from detrofit.evaluation.coco import IOU_THRESHOLDS, RECALL_POINTS, SIZES
from detrofit.evaluation.size_matching import FOUND, NEUTRAL, ClassMatches

CHUNK_ELEMENTS = 2**20  # weights of a class's detections at a time, so that they stay in the processor's cache
CHUNK_LIMITS = (16, 256)  # resamples at a time
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


def resampled_ap(
    matches: Sequence[ClassMatches], weights: np.ndarray, threads: int = 1, by_size: bool = True
) -> ResampledAP:
    """AP when picture i counts `weights[r, i]` times, for each resample r.

    Equal to COCO's evaluator on a data set that holds each picture so many times, side by side; of detections with the
    very same score each stays with its copies, where COCO would alternate them.

    Args:
        matches: one a class, from `match_by_size`.
        weights: int `[R, N]`, not negative.
        threads: classes are worked on by so many threads.
        by_size: also for small, medium and large, which takes as long again; else NaN there.
    """
    counts = np.ascontiguousarray(weights, np.int32)
    values = np.full((len(weights), 4, len(IOU_THRESHOLDS), len(matches)), np.nan)
    low, high = CHUNK_LIMITS
    sizes = 4 if by_size else 1

    def fill(label: int) -> None:
        chunk = min(high, max(low, CHUNK_ELEMENTS // max(1, len(matches[label].image))))
        for start in range(0, len(weights), chunk):
            rows = slice(start, start + chunk)
            _fill_class(matches[label], counts[rows], values[rows, :sizes, :, label])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(len(matches))))
    return ResampledAP(values)


def bootstrap_weights(num_images: int, resamples: int, seed: int) -> np.ndarray:
    """int32 `[resamples, num_images]`: how often each picture is drawn, with replacement, `num_images` times."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_images, np.full(num_images, 1 / num_images), size=resamples).astype(np.int32)


def _fill_class(matches: ClassMatches, counts: np.ndarray, values: np.ndarray) -> None:
    """Write AP of a class into `values` `[R, 1 or 4, 10]`, by size and threshold; `counts` is `[R, N]`."""
    weights = counts.take(matches.image, axis=1)
    for size, images in enumerate(matches.object_images[: values.shape[1]]):
        if not len(images):
            continue
        objects = counts.take(images, axis=1).sum(axis=1)
        in_range = matches.in_range[size]
        chosen = weights if in_range.all() else weights.take(np.flatnonzero(in_range), axis=1)
        running = np.zeros((len(counts), chosen.shape[1] + 1), np.int32)
        np.cumsum(chosen, axis=1, out=running[:, 1:])
        # What found an object of another size, and is of another size itself, changes nothing of this one.
        outcomes = matches.outcome[size]
        telling = (outcomes == FOUND) | ((outcomes == NEUTRAL) & in_range)
        matched = np.flatnonzero(telling.any(axis=0))  # few of the detections
        of_matched = weights.take(matched, axis=1)
        before_matched = running.take(np.cumsum(in_range)[matched], axis=1)
        for threshold, outcome in enumerate(outcomes[:, matched]):
            events = np.flatnonzero(telling[threshold, matched])
            values[:, size, threshold] = _average_precision(
                of_matched.take(events, axis=1),
                before_matched.take(events, axis=1),
                outcome[events] == FOUND,
                in_range[matched[events]],
                objects,
            )


def _average_precision(
    weights: np.ndarray, running: np.ndarray, found: np.ndarray, in_range: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """AP `[R]` from the E matched detections alone, best first.

    Interpolated precision is attained where an object is found, so that false detections matter only through how many
    lie before each match: `running` `[R, E]`, all detections of the size up to there, less the matched among them.
    """
    if not weights.shape[1]:
        return np.where(objects > 0, 0.0, np.nan)
    hits = np.cumsum(weights if found.all() else weights * found, axis=1, dtype=np.int32)
    counted = running
    if not (found & in_range).all():
        counted = hits + running - np.cumsum(weights * in_range, axis=1, dtype=np.int32)
    precision = hits / np.maximum(counted, 1)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    reached = _recall_points_reached(hits, objects[:, None])
    total = best[:, 0] * (reached[:, 0] + 1) + np.einsum("re,re->r", best[:, 1:], reached[:, 1:] - reached[:, :-1])
    return np.where(objects > 0, total / len(RECALL_POINTS), np.nan)


def _recall_points_reached(hits: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """float64 `[R, E]`: the position of the last of COCO's recall points that each recall reaches, compared as COCO
    compares them; `objects` is `[R, 1]`."""
    objects = np.maximum(objects, 1)
    reached = hits * (100 / objects)
    reached += 1e-9
    np.floor(reached, out=reached)
    delicate = (objects * _ABOVE_HUNDREDTH % 100 == 0).any(axis=1)
    reached[delicate] -= RECALL_POINTS[reached[delicate].astype(np.intp)] > hits[delicate] / objects[delicate]
    return reached


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of what is defined, over all but the first axis; NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    defined = ~np.isnan(flat)
    number = defined.sum(axis=1)
    return np.where(number > 0, np.where(defined, flat, 0).sum(axis=1) / np.maximum(number, 1), np.nan)
