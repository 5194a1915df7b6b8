"""How much worse a model is than the teacher on the search split: detection loss, distance of outputs, AP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from statistics import median
from typing import Any

import numpy as np
import torch

from detrofit.data.loader import EvaluationLoader
from detrofit.distillation.loss import confidence_sum, distillation_losses
from detrofit.errors import DetrofitError
from detrofit.evaluation.drawn_ap import difference_interval, drawn_ap
from detrofit.evaluation.evaluate import evaluate
from detrofit.evaluation.predictions import Predictions
from detrofit.grafting.library import Candidate, GraftSlot, trained_student
from detrofit.grafting.training import States
from detrofit.grafting.workshop import Workshop, progress_bar
from detrofit.model.detector import RTDETR
from detrofit.model.output import DetectorOutput, Prediction
from detrofit.training.validate import add_detections
from detrofit.training.workers import default_workers

FILE = "scores.json"
LEAST_AP = 0.02  # of a teacher: below, its outputs say nothing
SURE = 2.0  # standard errors by which random numbers must differ from the teacher
LEAST_LOSS = 0.05  # of what random numbers in all slots lose: what is less does not matter, and must be told from more


@dataclass(frozen=True)
class Score:
    """A model against the teacher: means over pictures, with their standard errors.

    Attributes:
        loss: detection loss of the last decoder layer less the teacher's, paired by picture.
        distance: of its matched outputs to the teacher's, by confidence (see `distillation_losses`).
        total: their sum, which choices rest on. It has much less noise than AP.
        ap, ap50: for the record.
        ap_low, ap_high: the teacher's AP plus the 95 % interval of the difference to it, over drawings of the pictures;
            NaN where it was not computed.
        threshold: score above which its detections count; NaN where none was measured.
    """

    loss: float
    loss_error: float
    distance: float
    distance_error: float
    total: float
    total_error: float
    ap: float
    ap50: float
    threshold: float = math.nan
    ap_low: float = math.nan
    ap_high: float = math.nan


NO_SCORE = Score(*[math.nan] * len(fields(Score)))  # of what does not answer in numbers


class Scorer:
    """Scores models on the search split against the teacher, whose outputs are computed once.

    Attributes:
        teacher: the score of the teacher as it is: its AP.
    """

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self._targets: list[dict[str, Any]] = []
        self._teacher: tuple[float, np.ndarray] | None = None  # its AP, and that of drawings of the pictures
        self._outputs = self._run(workshop.teacher)
        boxes = sum(len(target["labels"]) for target in self._targets)
        self._boxes = max(1.0, boxes / len(self._targets))
        self._confidence = max(1.0, float(np.mean([confidence_sum(output) for output in self._outputs])))
        self._losses = self._detection_losses(self._outputs)
        self.teacher = self._score(self._outputs)

    def check(self) -> None:
        """DetrofitError for a teacher that has nothing to teach."""
        if not self.teacher.ap >= LEAST_AP:  # nor where it is NaN
            raise DetrofitError(
                f"the AP of {self.workshop.file} on '{self.workshop.search.split}' is {self.teacher.ap:.4f}: there is "
                "nothing to imitate; train it first, or give the data that it was trained on"
            )

    def score(self, model: RTDETR) -> Score:
        """The score of an eval-mode model."""
        return self._score(self._run(model))

    def _run(self, model: RTDETR) -> list[DetectorOutput]:
        """The output for each picture; every run is a look at the search split."""
        workshop = self.workshop
        workshop.look()
        loader = EvaluationLoader(
            workshop.search, workshop.size, workshop.settings.batch, workers=default_workers(workshop.settings.workers)
        )
        outputs, self._targets = [], []
        with torch.inference_mode():
            for images, targets in loader:
                with workshop.devices.autocast():
                    prediction = model(workshop.devices.images(images)).prediction
                outputs += [_single(prediction, row) for row in range(len(images))]
                self._targets += targets
        return outputs

    def _score(self, outputs: list[DetectorOutput]) -> Score:
        if not all(bool(part.isfinite().all()) for output in outputs for part in output.prediction):
            return NO_SCORE
        loss = self._detection_losses(outputs) - self._losses
        distance = np.array([self._distance(*pair) for pair in zip(outputs, self._outputs)])
        numbers = [value for each in (loss, distance, loss + distance) for value in _mean_and_error(each)]
        predictions, most = Predictions(), self.workshop.teacher.frame.max_detections
        for output, target in zip(outputs, self._targets):
            add_detections(predictions, output.prediction, [target], most)
        return Score(*[*numbers, *self._accuracy(predictions), *self._interval(predictions)])

    def _detection_losses(self, outputs: list[DetectorOutput]) -> np.ndarray:
        """One number a picture; their mean is the split's loss a box."""
        criterion, size = self.workshop.teacher.criterion, self.workshop.size
        found = []
        for output, target in zip(outputs, self.workshop.devices.targets(self._targets)):
            losses = criterion(output, [target], size, num_boxes=self._boxes)
            found.append(float(torch.stack(list(losses.values())).sum()))
        return np.array(found)

    def _distance(self, output: DetectorOutput, teacher: DetectorOutput) -> float:
        losses = distillation_losses(output, teacher, divisor=self._confidence)
        return float(torch.stack(list(losses.values())).sum())

    def _accuracy(self, predictions: Predictions) -> tuple[float, float, float]:
        """AP, AP50 and the best threshold."""
        summary = evaluate(self.workshop.search, predictions).summary
        return summary.get("AP", 0.0), summary.get("AP50", 0.0), summary.get("threshold", math.nan)

    def _interval(self, predictions: Predictions) -> tuple[float, float]:
        """The ends of the interval of AP; the first predictions are the teacher's."""
        drawn = drawn_ap(self.workshop.search, predictions)
        if self._teacher is None:
            self._teacher = self._accuracy(predictions)[0], drawn
        ap, of_teacher = self._teacher
        low, high = difference_interval(of_teacher, drawn)
        return ap + low, ap + high


def score_library(workshop: Workshop, scorer: Scorer, states: States) -> dict[str, Score]:
    """The score of every candidate alone in the teacher, whose norms move with it; NaN for one that has no state."""
    known = workshop.record(FILE)
    all_of_them = [candidate for slot in workshop.slots for candidate in slot.candidates]
    candidates = [candidate for candidate in all_of_them if candidate.key in states]
    done = sum(candidate.key in known for candidate in candidates)
    with progress_bar("scoring each candidate in the teacher", len(candidates), done) as advance:
        for candidate in candidates:
            if candidate.key not in known:
                student = settled(workshop, [candidate], states)
                known[candidate.key] = asdict(scorer.score(student))
                workshop.keep(FILE, known)
                advance()
    return {each.key: Score(**known[each.key]) if each.key in states else NO_SCORE for each in all_of_them}


def control(workshop: Workshop, scorer: Scorer) -> Score:
    """The first candidate of every slot with random numbers, all at once: what a graft without training is worth.

    Raises DetrofitError where the search split is too small to tell even that from the teacher. Where it is better for
    sure, that is noted. One that answers in no numbers is worse.
    """
    known = workshop.record("control.json")
    if not known:
        score = scorer.score(settled(workshop, first_candidates(workshop), {}))
        known = asdict(score)
        workshop.keep("control.json", known)
    score = Score(**known)
    if abs(score.loss) <= SURE * score.loss_error:
        raise DetrofitError(
            f"the search split '{workshop.search.split}' ({len(workshop.search)} pictures) is too small for the noise: "
            f"random numbers in all slots change its loss by {score.loss:.3f} ± {score.loss_error:.3f} (standard "
            "error), which is no difference; give a larger --search-split, or slots that matter"
        )
    if score.loss < 0:
        workshop.note(
            f"random numbers in all slots improve the loss by {-score.loss:.3f} ± {score.loss_error:.3f} (standard "
            "error): these slots hardly matter; a graft here proves little"
        )
    return score


def check_library(workshop: Workshop, scores: Mapping[str, Score], control: Score) -> None:
    """DetrofitError where no candidate can be chosen; a note where in most slots chance would choose, and one where the
    split is too small to tell a good candidate from one that loses something."""
    slots = [[scores[each.key] for each in slot.candidates] for slot in workshop.slots]
    sound = [[score for score in slot if math.isfinite(score.total)] for slot in slots]
    if not any(sound):
        raise DetrofitError(
            f"none of the {sum(map(len, slots))} candidates answers in numbers, all have diverged: there is nothing to "
            "choose; give others, or a lower --lr, with another --out"
        )
    several = [slot for slot in sound if len(slot) > 1]
    alike = sum(_differ_by_chance(slot) for slot in several)
    if 2 * alike > len(several):
        workshop.note(
            f"in {alike} of {len(several)} slots candidates differ by less than the noise of {len(workshop.search)} "
            "pictures: which of them is chosen may be chance"
        )
    _check_resolution(workshop, [min(slot, key=lambda score: score.loss_error) for slot in sound if slot], control)


def _check_resolution(workshop: Workshop, steadiest: Sequence[Score], control: Score) -> None:
    """A note, with the size that would do, where even the steadiest candidate of a usual slot has too much noise."""
    pictures, error = len(workshop.search), SURE * median(score.loss_error for score in steadiest)
    share = error / abs(control.loss) if control.loss else math.inf
    if share > LEAST_LOSS:
        enough = f"; some {math.ceil(pictures * (share / LEAST_LOSS) ** 2)} would do" if math.isfinite(share) else ""
        workshop.note(
            f"{pictures} pictures are too few to tell a good candidate: its loss is known to ± {error:.3f}, which is "
            f"{share:.0%} of what random numbers in all slots lose (limit {LEAST_LOSS:.0%}){enough}"
        )


def _differ_by_chance(slot: Sequence[Score]) -> bool:
    """Whether noise over pictures may be all that tells the candidates of a slot apart."""
    totals = [score.total for score in slot]
    return max(totals) - min(totals) < SURE * median(score.total_error for score in slot)


def first_candidates(workshop: Workshop) -> list[Candidate]:
    """One candidate of every slot, none of which overlap; one that has numbers to learn, where there is one."""
    chosen: list[GraftSlot] = []
    for slot in workshop.slots:
        if not any(slot.overlaps(other) for other in chosen):
            chosen.append(slot)
    return [next((each for each in slot.candidates if each.name != "none"), slot.candidates[0]) for slot in chosen]


def settled(workshop: Workshop, chosen: list[Candidate], states: Mapping[str, Any]) -> RTDETR:
    """The teacher with these candidates on the device, its batch norms moved as they moved what these see."""
    student = workshop.devices.place(trained_student(workshop.teacher, chosen, states, seed=workshop.settings.seed))
    measure_norms(workshop, student, chosen)
    return student.requires_grad_(False)


def measure_norms(workshop: Workshop, student: RTDETR, chosen: Sequence[Candidate]) -> None:
    """Move the student's batch norms as far as the chosen parts move what they see; those in the parts are measured."""
    addresses = {candidate.slot for candidate in chosen}
    with workshop.devices.autocast():
        workshop.norm_shift(student, [slot.unit for slot in workshop.slots if slot.address in addresses])


def _single(prediction: Prediction, row: int) -> DetectorOutput:
    """The output for one picture of a batch."""
    one = Prediction(*(part[row : row + 1].float() for part in prediction))
    return DetectorOutput(one, [], [], [], None, torch.empty(0))


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return float(values.mean()), error
