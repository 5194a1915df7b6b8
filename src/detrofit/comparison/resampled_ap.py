"""COCO's AP of reweighted pictures, from matches made once: what a bootstrap over pictures needs thousands of times."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from detrofit.comparison.size_matching import FOUND, UNMATCHED, ClassMatches
from detrofit.evaluation.coco import IOU_THRESHOLDS, RECALL_POINTS, SIZES

CHUNK = 128  # resamples at a time: the running sums of a class then stay in the processor's cache
_AT_50, _AT_75, _ALL_SIZES = 0, 5, 0


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
        for start in range(0, len(weights), CHUNK):
            _fill_class(matches[label], counts[:, start : start + CHUNK], values[start : start + CHUNK, ..., label])

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
        running = np.cumsum(weights if in_range.all() else weights * in_range[:, None], axis=0, dtype=np.int32)
        for threshold, outcome in enumerate(matches.outcome[size]):
            events = np.flatnonzero(outcome != UNMATCHED)
            values[:, size, threshold] = _average_precision(
                weights[events], outcome[events] == FOUND, running[events], in_range[events], objects
            )


def _average_precision(
    weights: np.ndarray, found: np.ndarray, running: np.ndarray, in_range: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """AP `[R]` from the E matched detections alone, best first.

    Interpolated precision is attained where an object is found, so that false detections matter only through how many
    lie before each match: `running` `[E, R]`, all detections of the size up to there, less the matched among them.
    """
    if not len(weights):
        return np.where(objects > 0, 0.0, np.nan)
    hits = np.cumsum(weights if found.all() else weights * found[:, None], axis=0, dtype=np.int32)
    matched = hits if (found & in_range).all() else np.cumsum(weights * in_range[:, None], axis=0, dtype=np.int32)
    precision = hits / np.maximum(hits + (running - matched), 1)
    np.maximum.accumulate(precision[::-1], axis=0, out=precision[::-1])
    reached = _recall_points_reached(hits / np.maximum(objects, 1))
    total = precision[0] * (reached[0] + 1) + np.einsum("er,er->r", precision[1:], np.diff(reached, axis=0))
    return np.where(objects > 0, total / len(RECALL_POINTS), np.nan)


def _recall_points_reached(recall: np.ndarray) -> np.ndarray:
    """The position of the last of COCO's recall points that each recall reaches, compared as COCO compares them."""
    position = (recall * (len(RECALL_POINTS) - 1) + 1e-9).astype(np.intp)
    return position - (RECALL_POINTS[position] > recall)


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean of what is defined, over all but the first axis; NaN where nothing is."""
    flat = values.reshape(len(values), -1)
    defined = ~np.isnan(flat)
    number = defined.sum(axis=1)
    return np.where(number > 0, np.where(defined, flat, 0).sum(axis=1) / np.maximum(number, 1), np.nan)
