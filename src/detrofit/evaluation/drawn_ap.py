"""How sure a difference of AP is: both models' AP over the same drawings of the pictures."""

from __future__ import annotations

import numpy as np

from detrofit.data.index import DetectionIndex
from detrofit.evaluation.predictions import Predictions
from detrofit.evaluation.resampled_ap import bootstrap_weights, resampled_ap
from detrofit.evaluation.size_matching import match_by_size

DRAWINGS, SEED = 500, 0


def drawn_ap(index: DetectionIndex, predictions: Predictions) -> np.ndarray:
    """AP, 0..1, float64 `[DRAWINGS]`, of drawings of the index's pictures with replacement, the same for every model.

    NaN where no picture with an object was drawn.
    """
    weights = bootstrap_weights(len(index), DRAWINGS, SEED)
    return resampled_ap(match_by_size(index, predictions), weights, by_size=False).summary(())["AP"]


def difference_interval(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Where `other - one` of two models' `drawn_ap` lies in 95 % of the drawings; NaN if it is defined in none.

    That is what the choice of pictures does to it. What another seed of the training would do is no part of it.
    """
    differences = (other - one)[np.isfinite(other - one)]
    if not len(differences):
        return float("nan"), float("nan")
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)
