"""Whether a variant differs from its base: an interval over seeds and pictures, an exact test, and a verdict.

docs/statistics.md explains the method and how its calibration was measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

ALPHA = 0.05
DECIDING_POWER = 0.8  # a number of seeds "would probably decide" if it does with this probability
SIMULATED = 1000  # studies, to tell how many seeds would decide
MOST_SEEDS = 40  # the exact sign-flip test enumerates 2^(n/2) sums

Word = Literal["better", "worse", "same within the margin", "cannot tell"]


@dataclass(frozen=True)
class PairedDifference:
    """A difference of two models, its two sources of uncertainty apart; in the units of the values given.

    Attributes:
        per_seed: the difference of each seed on all test pictures.
        seed_variance: variance of the difference from seed to seed; 0 for a single seed, which has none to measure.
        image_variance: variance of the mean difference from one draw of test pictures to another, beyond what seeds
            explain.
        num_images: test pictures.
    """

    per_seed: tuple[float, ...]
    seed_variance: float
    image_variance: float
    num_images: int

    @property
    def seeds(self) -> int:
        """How many seeds both models have."""
        return len(self.per_seed)

    @property
    def mean(self) -> float:
        """The difference, averaged over seeds."""
        return float(np.mean(self.per_seed))

    def half_width(self, alpha: float = ALPHA) -> float:
        """Half of the interval of level 1 - alpha."""
        return float(half_width(self.seed_variance, self.image_variance, self.seeds, self.num_images, alpha))

    def interval(self, alpha: float = ALPHA) -> tuple[float, float]:
        """The interval of level 1 - alpha; of a single seed it covers the choice of pictures alone."""
        half = self.half_width(alpha)
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Two-sided, of no difference: the interval of level 1 - p just touches 0; 1 for a single seed."""
        if self.seeds < 2 or self.mean == 0:
            return 1.0
        low, high = 1e-12, 1.0
        for _ in range(30):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.half_width(middle) < abs(self.mean) else (middle, high)
        return high


def half_width(seed_variance: Any, image_variance: float, seeds: int, num_images: int, alpha: float) -> Any:
    """Half of the interval of level 1 - alpha of a mean over seeds.

    Each component is widened by the quantile of Student's t for its own number of draws, then they add as squares.
    """
    from scipy.special import stdtrit

    of_seeds = stdtrit(max(seeds - 1, 1), 1 - alpha / 2) ** 2 * seed_variance / seeds
    of_images = stdtrit(max(num_images - 1, 1), 1 - alpha / 2) ** 2 * image_variance
    return np.sqrt(of_seeds + of_images)


def paired_difference(differences: Sequence[float], resampled: np.ndarray, num_images: int) -> PairedDifference:
    """Split the uncertainty of a mean difference into seeds and pictures.

    The two-level bootstrap's variance, in closed form over seeds and with both levels unbiased: the variance over
    seeds is the sample's, and what a seed's own picture noise adds to the bootstrap over pictures is taken out, for
    the variance over seeds holds it already.

    Args:
        differences: `[n]`, one a seed, on the test split as it is.
        resampled: `[R, n]`, the same on R resamples of the pictures, each shared by all seeds and both models.
        num_images: pictures of the test split.
    """
    values = np.asarray(differences, np.float64)
    seeds = len(values)
    usable = resampled[~np.isnan(resampled).any(axis=1)]
    unbiased = num_images / max(num_images - 1, 1)
    of_mean = float(usable.mean(axis=1).var(ddof=1)) * unbiased
    if seeds == 1:
        return PairedDifference(tuple(values.tolist()), 0.0, of_mean, num_images)
    of_each = float(usable.var(axis=0, ddof=1).mean()) * unbiased
    shared = max(0.0, (seeds * of_mean - of_each) / (seeds - 1))
    return PairedDifference(tuple(values.tolist()), float(values.var(ddof=1)), shared, num_images)


def sign_flip_p(differences: Sequence[float]) -> float:
    """Exact two-sided p of no difference: the share of all 2^n sign changes with a sum at least as far from 0.

    The sums of the two halves are made apart and counted against each other, so that 40 seeds are no trouble.
    """
    values = np.asarray(differences, np.float64)
    observed = abs(float(values.sum()))
    least = observed - 1e-12 * max(1.0, observed)
    if least <= 0:
        return 1.0
    half = len(values) // 2
    first, second = _signed_sums(values[:half]), np.sort(_signed_sums(values[half:]))
    as_far = (len(second) - np.searchsorted(second, least - first)).sum()
    return float(2 * as_far / 2 ** len(values))


def _signed_sums(values: np.ndarray) -> np.ndarray:
    """The sums of all sign changes."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def smallest_sign_flip_p(seeds: int) -> float:
    """The p of the sign-flip test when all seeds agree, below which it cannot go."""
    return min(1.0, 2 / 2**seeds)


def holm_levels(p_values: Sequence[float], alpha: float = ALPHA) -> list[float]:
    """The level at which each hypothesis is tested by Holm's step-down; it is rejected if its p is at most that.

    After the first that is not rejected all keep its level, so that intervals of these levels say the same.
    """
    order = np.argsort(p_values, kind="stable").tolist()
    levels = [0.0] * len(p_values)
    level, stopped = alpha, False
    for rank, position in enumerate(order):
        if not stopped:
            level = alpha / (len(order) - rank)
            stopped = p_values[position] > level
        levels[position] = level
    return levels


@dataclass(frozen=True)
class Verdict:
    """What a study says about one variant.

    Attributes:
        word: one of the four verdicts.
        level: alpha of `interval` after Holm's correction; `interval` is what the verdict rests on.
        p_value: two-sided, from the interval; `sign_flip` the exact test's.
        sign_flip_counts: whether the seeds are enough for the exact test to be asked.
        further_seeds: seeds beyond those run that would probably decide; None if decided or if seeds alone would not.
    """

    word: Word
    level: float
    interval: tuple[float, float]
    p_value: float
    sign_flip: float
    sign_flip_counts: bool
    further_seeds: int | None


def verdicts(
    differences: Sequence[PairedDifference], margin: float, alpha: float = ALPHA, tried: int | None = None
) -> list[Verdict]:
    """A verdict for each variant of one study, corrected for their number by Holm.

    Args:
        differences: variant minus base, in the units of `margin`.
        margin: a difference up to this is of no interest; chosen before the study.
        tried: how many variants there are, also those that nothing can be said of; by default the number of
            `differences`.
    """
    tried = len(differences) if tried is None else tried
    asked = [smallest_sign_flip_p(each.seeds) <= alpha / tried for each in differences]
    p_values = [
        max(each.p_value(), sign_flip_p(each.per_seed) if ask else 0.0)
        for each, ask in zip(differences, asked, strict=True)
    ]
    levels = holm_levels([*p_values, *[1.0] * (tried - len(p_values))], alpha)
    return [
        _verdict(difference, p_value, level, margin, ask)
        for difference, p_value, level, ask in zip(differences, p_values, levels, asked)
    ]


def _verdict(difference: PairedDifference, p_value: float, level: float, margin: float, asked: bool) -> Verdict:
    low, high = difference.interval(level)
    word: Word = "cannot tell"
    if difference.seeds > 1 and p_value <= level:
        word = "better" if difference.mean > 0 else "worse"
    elif difference.seeds > 1 and -margin < low and high < margin:
        word = "same within the margin"
    return Verdict(
        word,
        level,
        (low, high),
        difference.p_value(),
        sign_flip_p(difference.per_seed),
        asked,
        further_seeds(difference, margin, level) if word == "cannot tell" else None,
    )


def further_seeds(difference: PairedDifference, margin: float, level: float) -> int | None:
    """The fewest more seeds with which a repetition decides with probability 0.8, if what was estimated is true.

    None for a single seed, whose spread is unknown, and where as many as a study may have (`MOST_SEEDS`) would not.
    """

    def decides(more: int) -> bool:
        return deciding_power(difference, margin, level, difference.seeds + more) >= DECIDING_POWER

    low, high = 0, MOST_SEEDS - difference.seeds
    if difference.seeds < 2 or high < 1 or not decides(high):
        return None
    while high - low > 1:  # more seeds decide more often
        middle = (low + high) // 2
        low, high = (low, middle) if decides(middle) else (middle, high)
    return high


def deciding_power(difference: PairedDifference, margin: float, level: float, seeds: int) -> float:
    """The probability of any verdict but "cannot tell" with so many seeds, if what was estimated is true.

    The share of 1,000 simulated studies, judged as a real one is. Beyond 12 seeds the sign-flip test is left out: it
    then says what the interval says.
    """
    generator = np.random.default_rng(seeds)
    pictures = generator.normal(0, math.sqrt(difference.image_variance), (SIMULATED, 1))
    drawn = difference.mean + pictures + generator.normal(0, math.sqrt(difference.seed_variance), (SIMULATED, seeds))
    means = np.abs(drawn.mean(axis=1))
    half = half_width(drawn.var(axis=1, ddof=1), difference.image_variance, seeds, difference.num_images, level)
    apart = means > half
    if smallest_sign_flip_p(seeds) <= level and seeds <= 12:
        signs = 1 - 2 * (np.arange(2 ** (seeds - 1))[:, None] >> np.arange(seeds) & 1)  # the other half mirrors it
        apart &= (np.abs(drawn @ signs.T) >= seeds * means[:, None] - 1e-9).mean(axis=1) <= level
    return float((apart | (means + half < margin)).mean())


@dataclass(frozen=True)
class Reach:
    """What a number of seeds can show, known before the study starts.

    Attributes:
        smallest_p: of the sign-flip test; `sign_flip_counts` if that can pass Holm's first step.
        visible: the smallest observed difference that can come out as better or worse, in units of its standard
            deviation from seed to seed, even with endless test pictures; infinite for a single seed.
        found: the true difference, in the same units, that does so with probability 0.8; infinite for a single seed.
        same_spread: the largest such deviation, in AP points, with which the margin can come out; 0 for a single seed.
    """

    seeds: int
    variants: int
    smallest_p: float
    sign_flip_counts: bool
    visible: float
    found: float
    margin: float
    same_spread: float

    def __str__(self) -> str:
        if self.seeds < 2:
            return "1 seed has no spread to measure: every verdict will be 'cannot tell'; give at least 2, better 6"
        if self.sign_flip_counts:
            exact = "the exact sign-flip test must agree"
        else:
            exact = f"the exact sign-flip test is not asked, since it cannot go below p = {self.smallest_p:.3g}"
        return (
            f"{self.seeds} seeds and {self.variants} variant{'s' * (self.variants != 1)}: a true difference of "
            f"{self.found:.2g} times its spread over seeds is told from 0 in 80 % of studies, an observed one of less "
            f"than {self.visible:.2g} times in none, and 'same within the margin' of {self.margin:g} AP comes out only "
            f"with a spread below {self.same_spread:.2g} AP; all of it takes more with few test pictures; {exact}"
        )


def reachable(seeds: int, variants: int, margin: float, alpha: float = ALPHA) -> Reach:
    """What so many seeds can show about so many variants."""
    level = alpha / max(variants, 1)
    visible = float(half_width(1.0, 0.0, seeds, 2, level)) if seeds > 1 else math.inf
    smallest = smallest_sign_flip_p(seeds)
    return Reach(
        seeds, variants, smallest, smallest <= level, visible, _found(seeds, level, visible), margin, margin / visible
    )


@cache
def _found(seeds: int, level: float, visible: float) -> float:
    """The true difference of a spread of 1 that is told from 0 with probability 0.8, pictures left aside."""
    if seeds < 2:
        return math.inf
    low, high = visible, 4 * visible
    for _ in range(10):
        middle = (low + high) / 2
        power = deciding_power(PairedDifference((middle,) * seeds, 1.0, 0.0, 2), 0.0, level, seeds)
        low, high = (low, middle) if power >= DECIDING_POWER else (middle, high)
    return high
