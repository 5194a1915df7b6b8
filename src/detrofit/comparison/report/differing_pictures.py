"""On which test pictures a variant does better or worse than the base: from the predictions that runs have left."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detrofit.comparison.analysis import Results
from detrofit.comparison.splits import prepare_data
from detrofit.comparison.study import BASE
from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from detrofit.evaluation.matching import Matches, match_detections
from detrofit.evaluation.operating_point import score_curve
from detrofit.evaluation.predictions import Predictions

MOST_SEEDS = 3  # that are matched; more would take long, and the order of pictures hardly changes


@dataclass(frozen=True)
class Sight:
    """What one run makes of every test picture at its own best score threshold, at IoU 0.5.

    Attributes:
        counted: bool `[D]`, the detections (of `matches`) that pass the threshold and are right or wrong.
        f1: float64 `[N]` of each picture; 1 where there was nothing to find and nothing was found.
    """

    predictions: Predictions
    matches: Matches
    counted: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True)
class Difference:
    """A picture on which a variant differs from the base.

    Attributes:
        position: of the picture in the test split.
        f1: difference of F1 in -1..1, mean over the seeds compared.
        seed: the one whose difference is nearest to that mean.
    """

    position: int
    f1: float
    seed: int


class Sights:
    """The runs of a study on its test split, read when they are asked for."""

    def __init__(self, results: Results, index: DetectionIndex, folders: Sequence[Path]) -> None:
        self.index = index
        self._files = {
            (run["variant"], run["seed"]): file
            for run in results["runs"]
            if run["status"] == "done" and (file := _file(run, folders)) is not None
        }
        self._sights: dict[tuple[str, int], Sight] = {}

    def seeds(self, variant: str) -> list[int]:
        """Seeds of which the predictions of both the base and the variant are here, a few."""
        return sorted(seed for name, seed in self._files if name == variant and (BASE, seed) in self._files)[
            :MOST_SEEDS
        ]

    def of(self, variant: str, seed: int) -> Sight:
        """What a run made of the pictures."""
        key = (variant, seed)
        if key not in self._sights:
            self._sights[key] = look(self.index, Predictions.read(self._files[key], self.index))
        return self._sights[key]

    def forget(self, variant: str) -> None:
        """Let go of a variant's runs, which are large."""
        self._sights = {key: sight for key, sight in self._sights.items() if key[0] != variant}

    def differences(self, variant: str, most: int) -> tuple[list[Difference], list[Difference]]:
        """Where the variant is better, and where it is worse, the largest difference first, up to `most` of each."""
        seeds = self.seeds(variant)
        each = np.stack([self.of(variant, seed).f1 - self.of(BASE, seed).f1 for seed in seeds])
        mean = each.mean(axis=0)
        nearest = np.abs(each - mean).argmin(axis=0)
        order = np.argsort(-mean, kind="stable")
        found = [Difference(int(at), float(mean[at]), seeds[nearest[at]]) for at in order]
        better = [each for each in found[:most] if each.f1 > 0]
        worse = [each for each in found[: -most - 1 : -1] if each.f1 < 0]
        return better, worse


def look(index: DetectionIndex, predictions: Predictions) -> Sight:
    """Match a run's predictions at IoU 0.5, and score every picture at the threshold of the best F1 over all."""
    matches = match_detections(index, predictions)
    threshold = score_curve(index, matches).best().threshold
    counted = (matches.score >= threshold) & ~matches.ignored[0]
    right = counted & matches.true_positive[0]
    detections = np.bincount(matches.image_index[counted], minlength=len(index))
    found = np.bincount(matches.image_index[right], minlength=len(index))
    of_picture = np.repeat(np.arange(len(index)), np.diff(index.box_offsets))
    objects = np.bincount(of_picture[~index.crowd], minlength=len(index))
    total = detections + objects
    return Sight(predictions, matches, counted, np.where(total > 0, 2 * found / np.maximum(total, 1), 1.0))


def study_test_split(results: Results, data: Path) -> DetectionIndex:
    """The test split of the data at `data`; DetrofitError if that is not what the study was made on."""
    splits = open_dataset(data).splits
    test = results["settings"]["test_split"]
    if test not in splits and "test" in splits:  # as a study calls it that took its other split from train
        test = "test"
    trained = [run["experiment"] for run in results["runs"] if run.get("experiment", {}).get("train")]
    val = trained[0]["train"]["val_split"] if trained else "val"
    with tempfile.TemporaryDirectory() as folder:
        found = prepare_data(data, val, test, Path(folder))
        if found.digest != results["data"]["digest"]:
            raise DetrofitError(
                f"{data} is not the data that the study was made on (other pictures or boxes); give --data"
            )
        return found.open_test()


def _file(run: Mapping[str, Any], folders: Sequence[Path]) -> Path | None:
    files = [folder / run["predictions"] for folder in folders if run.get("predictions")]
    return next((file for file in files if file.is_file()), None)
