from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detrofit.distillation.loss import TERMS, confidence_sum, distillation_losses
from detrofit.model.output import DetectorOutput, Prediction


def prediction(queries: int, seed: int, images: int = 2, classes: int = 3) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, queries, classes, generator=generator)
    boxes = 0.2 + 0.3 * torch.rand(images, queries, 4, generator=generator)
    return Prediction(logits, boxes)


def output(last: Prediction, *auxiliary: Prediction) -> DetectorOutput:
    return DetectorOutput(last, list(auxiliary), [], [], None, torch.zeros(1))


def shuffled(given: Prediction, seed: int) -> Prediction:
    order = torch.randperm(given.logits.shape[1], generator=torch.Generator().manual_seed(seed))
    return Prediction(*(part[:, order].clone().requires_grad_() for part in given))


def total(student: DetectorOutput, teacher: DetectorOutput, **options: float) -> torch.Tensor:
    return torch.stack(list(distillation_losses(student, teacher, **options).values())).sum()


def test_a_student_that_says_the_same_in_another_order_loses_nothing():
    teacher = prediction(7, seed=0)
    student = output(shuffled(teacher, 1), shuffled(teacher, 2), shuffled(teacher, 3))
    losses = distillation_losses(student, output(teacher))
    assert list(losses) == [f"{term}{layer}" for layer in ("", ".layer0", ".layer1") for term in TERMS]
    assert all(loss.item() == pytest.approx(0, abs=1e-5) for loss in losses.values())
    total(student, output(teacher)).backward()
    assert student.prediction.logits.grad.abs().max() < 1e-5


@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_queries_are_paired_so_that_the_loss_is_least(seed):
    student, teacher = prediction(4, seed, images=1), output(prediction(4, seed + 5000, images=1))
    orders = itertools.permutations(range(4))
    alone = []
    for order in orders:
        # One query at a time leaves nothing to match.
        pairs = (
            total(
                output(Prediction(*(part[:, [place]] for part in student))),
                output(Prediction(*(part[:, [query]] for part in teacher.prediction))),
                divisor=1.0,
            )
            for query, place in enumerate(order)
        )
        alone.append(float(sum(pairs)))
    assert total(output(student), teacher, divisor=1.0).item() == pytest.approx(min(alone), rel=1e-4)


def test_a_smaller_student_learns_the_most_confident_queries():
    teacher = prediction(9, seed=4, images=1)
    best = teacher.logits.amax(-1)[0].topk(3).indices
    student = Prediction(*(part[:, best.flip(0)].clone() for part in teacher))
    assert total(output(student), output(teacher)).item() == pytest.approx(0, abs=1e-5)


def test_a_larger_student_keeps_its_other_queries():
    teacher, student = prediction(3, seed=1), prediction(8, seed=2)
    student = Prediction(*(part.requires_grad_() for part in student))
    total(output(student), output(teacher)).backward()
    assert (student.logits.grad.abs().sum(-1) > 0).sum(1).tolist() == [3, 3]
    assert (student.boxes.grad.abs().sum(-1) > 0).sum(1).tolist() == [3, 3]


def test_what_the_teacher_takes_for_background_hardly_counts():
    student = Prediction(torch.zeros(1, 1, 2), torch.full((1, 1, 4), 0.5))
    box = torch.full((1, 1, 4), 0.3)
    sure = distillation_losses(output(student), output(Prediction(torch.tensor([[[4.0, -4.0]]]), box)), divisor=1.0)
    unsure = distillation_losses(output(student), output(Prediction(torch.tensor([[[-4.0, -4.0]]]), box)), divisor=1.0)
    ratio = unsure["teacher_l1"] / sure["teacher_l1"]
    assert ratio.item() == pytest.approx(torch.tensor(-4.0).sigmoid().item() / torch.tensor(4.0).sigmoid().item())


def test_following_the_loss_leads_to_the_teacher():
    teacher = output(prediction(5, seed=8, images=1))
    logits = torch.zeros(1, 6, 3, requires_grad=True)
    spread = torch.linspace(-1, 1, 6).view(1, 6, 1).repeat(1, 1, 4)
    place = spread.clone().requires_grad_()
    optimizer = torch.optim.Adam([logits, place], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = total(output(Prediction(logits, place.sigmoid())), teacher)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    sure = teacher.prediction.logits[0].amax(-1) > 1
    learnt = torch.cdist(teacher.prediction.boxes[0][sure], place.sigmoid()[0]).amin(1)
    assert learnt.max() < 0.02


def test_weight_and_divisor_scale_all_losses():
    student, teacher = output(prediction(5, 1)), output(prediction(5, 2))
    once = total(student, teacher)
    assert total(student, teacher, weight=3.0).item() == pytest.approx(3 * once.item(), rel=1e-5)
    confidence = confidence_sum(teacher)
    assert confidence > 1
    assert total(student, teacher, divisor=2 * confidence).item() == pytest.approx(once.item() / 2, rel=1e-5)
    # A share of several processes may be less than 1, and is taken as it is.
    assert total(student, teacher, divisor=0.5).item() == pytest.approx(2 * total(student, teacher, divisor=1.0).item())


def test_a_teacher_that_sees_hardly_anything_weighs_little():
    student = output(prediction(5, 1))
    unsure = output(Prediction(torch.full((2, 5, 3), -9.0), prediction(5, 2).boxes))
    assert confidence_sum(unsure) < 0.01
    assert total(student, unsure).item() == pytest.approx(total(student, unsure, divisor=1.0).item())


def test_predictions_that_are_not_finite_are_not_hidden():
    student = prediction(4, 1)
    student.logits[0, 2, 0] = float("nan")
    losses = distillation_losses(output(student, prediction(4, 3)), output(prediction(4, 2)))
    assert all(losses[term].isnan() for term in TERMS)
    assert all(losses[f"{term}.layer0"].isfinite() for term in TERMS)


def test_half_precision_is_widened_and_nothing_flows_into_the_teacher():
    student = Prediction(prediction(4, 1).logits.bfloat16().requires_grad_(), prediction(4, 1).boxes)
    teacher = Prediction(*(part.requires_grad_() for part in prediction(4, 2)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = total(output(student), output(teacher))
    assert loss.dtype == torch.float32
    loss.backward()
    assert student.logits.grad.isfinite().all() and teacher.logits.grad is None
