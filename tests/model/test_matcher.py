"""Matching: least cost, each image by itself, all layers at once, broken predictions last."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detrofit.model.matcher import HungarianMatcher
from detrofit.model.output import Prediction
from detrofit.parts.losses.giou import GeneralizedIoULoss

SIZE = (320, 320)
MATCHER = HungarianMatcher(GeneralizedIoULoss())


def random_boxes(*shape: int, generator: torch.Generator) -> Tensor:
    sides = 0.05 + 0.3 * torch.rand(*shape, 2, generator=generator)
    return torch.cat([torch.rand(*shape, 2, generator=generator), sides], dim=-1)


def random_case(counts: list[int], queries: int, classes: int = 4, seed: int = 0) -> tuple[Prediction, list[dict]]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(counts), queries, classes, generator=generator)
    prediction = Prediction(logits, random_boxes(len(counts), queries, generator=generator))
    targets = [
        {"labels": torch.randint(classes, (n,), generator=generator), "boxes": random_boxes(n, generator=generator)}
        for n in counts
    ]
    return prediction, targets


def test_assignment_is_the_cheapest_of_all() -> None:
    prediction, targets = random_case([3], 5)
    labels, boxes = targets[0]["labels"], targets[0]["boxes"]
    score = prediction.logits[0].sigmoid()[:, labels]
    class_cost = -0.25 * (1 - score) ** 2 * score.log() + 0.75 * score**2 * (1 - score).log()
    l1 = (prediction.boxes[0][:, None] - boxes).abs().sum(-1)
    cost = 2 * class_cost + 5 * l1 + 2 * GeneralizedIoULoss()(prediction.boxes[0][:, None], boxes, SIZE)
    best = min(permutations(range(5), 3), key=lambda queries: cost[list(queries), range(3)].sum().item())
    matches = MATCHER([prediction], targets, SIZE)[0]
    assert dict(zip(matches.target.tolist(), matches.query.tolist())) == dict(enumerate(best))


@settings(max_examples=25, deadline=None)
@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=4), queries=st.integers(1, 5), seed=st.integers(0, 99))
def test_each_image_pairs_as_many_as_it_can_with_its_own_targets(counts: list[int], queries: int, seed: int) -> None:
    prediction, targets = random_case(counts, queries, seed=seed)
    matches = MATCHER([prediction], targets, SIZE)[0]
    owner = np.repeat(np.arange(len(counts)), counts)
    assert (owner[matches.target] == matches.image).all()
    assert np.bincount(matches.image, minlength=len(counts)).tolist() == [min(n, queries) for n in counts]
    assert len(set(matches.target)) == len(matches.target)
    assert len(set(zip(matches.image, matches.query))) == len(matches.query)


def test_layers_together_match_as_layers_alone() -> None:
    first, targets = random_case([4, 0, 2], 10)
    second, _ = random_case([4, 0, 2], 7, seed=1)
    for together, prediction in zip(MATCHER([first, second], targets, SIZE), (first, second)):
        alone = MATCHER([prediction], targets, SIZE)[0]
        assert all(np.array_equal(ours, other) for ours, other in zip(together, alone))


def test_a_single_logit_matches_every_class() -> None:
    prediction, targets = random_case([3], 6, classes=1)
    agnostic = MATCHER([prediction], [{**targets[0], "labels": torch.tensor([7, 2, 5])}], SIZE)[0]
    assert agnostic.query.tolist() == MATCHER([prediction], targets, SIZE)[0].query.tolist()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_prediction_is_not_cheap(broken: float) -> None:
    prediction, targets = random_case([3], 6)
    before = MATCHER([prediction], targets, SIZE)[0]
    query = int(before.query[0])
    prediction.boxes[0, query] = broken
    after = MATCHER([prediction], targets, SIZE)[0]
    assert before.finite and not after.finite
    assert len(after.query) == 3 and query not in after.query


def test_nothing_but_broken_predictions_does_not_crash() -> None:
    prediction, targets = random_case([3], 6)
    matches = MATCHER([Prediction(prediction.logits * float("nan"), prediction.boxes)], targets, SIZE)[0]
    assert not matches.finite and len(matches.query) == 3


def test_no_targets_no_pairs() -> None:
    prediction, targets = random_case([0, 0], 6)
    assert all(len(matches.query) == 0 and matches.finite for matches in MATCHER([prediction] * 2, targets, SIZE))


def test_costs_under_autocast_are_in_full_precision() -> None:
    prediction, targets = random_case([6, 3], 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = MATCHER([prediction], targets, SIZE)[0]
    assert mixed.query.tolist() == MATCHER([prediction], targets, SIZE)[0].query.tolist()
