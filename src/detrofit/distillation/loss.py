"""What a student loses against a teacher: matched queries, their class logits and boxes.

After KD-DETR (arXiv:2211.08071) and DETRDistill (arXiv:2211.10156): queries have no order, so the teacher's are first
matched to the student's one to one; a pair counts by how sure the teacher is that there is something.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from detrofit.model.matcher import Matches, assign
from detrofit.model.output import DetectorOutput, Prediction
from detrofit.parts.boxes import full_precision, generalized_iou

TERMS = ("teacher_class", "teacher_l1", "teacher_box")
CLASS_WEIGHT, L1_WEIGHT, BOX_WEIGHT = 1.0, 5.0, 2.0  # the proportions of the ordinary losses


def distillation_losses(
    student: DetectorOutput, teacher: DetectorOutput, *, weight: float = 1.0, divisor: float | None = None
) -> dict[str, Tensor]:
    """How far each of the student's decoder layers is from the teacher's last one, in float32; the sum is to minimise.

    A pair of queries loses the Kullback-Leibler divergence of its class scores (each class by itself, as the sigmoid
    has them), the L1 distance of its boxes, and one less their generalised IoU, all times the teacher's confidence,
    which is its highest class score. Each layer is matched by itself, so that this sum is least. Of the teacher's
    queries, the most confident take part, as many as the student has.

    Args:
        student: its output in training; the predictions of all decoder layers are taught, denoising is not.
        teacher: its output for the same images, with the same classes in the same order. Nothing flows back into it.
        weight: factor of all losses.
        divisor: what the sums are divided by. Default: the `confidence_sum` of the teacher, or 1 where it is less. Give
            the mean over processes, or the sum over accumulated batches, either one of at least 1 in all.

    Returns:
        `teacher_class`, `teacher_l1`, `teacher_box` of the last layer, then `teacher_class.layer0`, ... They are NaN
        where the student's predictions are not finite.
    """
    layers = [student.prediction, *student.auxiliary]
    names = ["", *(f".layer{number}" for number in range(len(student.auxiliary)))]
    with torch.autocast(student.prediction.logits.device.type, enabled=False):
        lesson = _lesson(teacher.prediction, student.prediction.logits.shape[1])
        factor = weight / (max(confidence_sum(teacher), 1.0) if divisor is None else divisor)
        losses: dict[str, Tensor] = {}
        for name, layer in zip(names, layers):
            sums = _layer_losses(layer, lesson)
            losses |= {f"{term}{name}": value * factor for term, value in zip(TERMS, sums)}
    return losses


def confidence_sum(teacher: DetectorOutput) -> float:
    """The teacher's confidence over all queries and images, about the number of objects that it sees."""
    return float(_confidence(teacher.prediction.logits.detach()).sum())


def _confidence(logits: Tensor) -> Tensor:
    """The highest class score `[B,Q]` of each query."""
    return full_precision(logits).amax(-1).sigmoid()


def _lesson(teacher: Prediction, num_queries: int) -> Prediction:
    """The teacher's most confident queries, at most so many, in at least float32."""
    logits, boxes = (full_precision(part.detach()) for part in teacher)
    best = _confidence(logits).topk(min(num_queries, logits.shape[1]), dim=1).indices.unsqueeze(-1)
    return Prediction(logits.take_along_dim(best, 1), boxes.take_along_dim(best, 1))


def _layer_losses(layer: Prediction, lesson: Prediction) -> Tensor:
    """Weighted sums `[3]` over the pairs of a layer, in the order of `TERMS`."""
    student = Prediction(*(full_precision(part) for part in layer))
    matches = _match(student, lesson)
    image, query, row = (torch.from_numpy(index).to(student.logits.device, non_blocking=True) for index in matches[:3])
    target = Prediction(*(part.flatten(0, 1)[row] for part in lesson))
    student = Prediction(*(part[image, query] for part in student))
    distances = torch.stack([_class_distance(student, target).sum(-1), *_box_distances(student, target)])
    sums = (distances * _confidence(target.logits)).sum(1)
    sums = sums * sums.new_tensor((CLASS_WEIGHT, L1_WEIGHT, BOX_WEIGHT))
    return sums if matches.finite else sums * float("nan")


@torch.no_grad()
def _match(student: Prediction, lesson: Prediction) -> Matches:
    """The student's query for each of the lesson's, so that the layer's loss is least."""
    pair = Prediction(student.logits.unsqueeze(1), student.boxes.unsqueeze(1))
    target = Prediction(lesson.logits.unsqueeze(2), lesson.boxes.unsqueeze(2))
    # The cross entropy of all pairs as one matrix product; the teacher's own entropy is the same along a row.
    crossed = functional.softplus(student.logits).sum(-1).unsqueeze(1) - lesson.logits.sigmoid() @ student.logits.mT
    l1, box = _box_distances(pair, target)
    cost = CLASS_WEIGHT * crossed + L1_WEIGHT * l1 + BOX_WEIGHT * box
    cost = cost * _confidence(lesson.logits).unsqueeze(-1)
    images, taught = lesson.logits.shape[:2]
    return assign(cost.flatten(0, 1).cpu().numpy(), [taught] * images)


def _class_distance(student: Prediction, target: Prediction) -> Tensor:
    """Kullback-Leibler divergence `[P,C]` from the teacher's score of each class to the student's; 0 where equal."""
    score = target.logits.sigmoid()
    crossed = functional.binary_cross_entropy_with_logits(student.logits, score, reduction="none")
    entropy = functional.binary_cross_entropy_with_logits(target.logits, score, reduction="none")
    return crossed - entropy


def _box_distances(student: Prediction, target: Prediction) -> tuple[Tensor, Tensor]:
    """L1 distance of the boxes and one less their generalised IoU, of broadcastable predictions."""
    l1 = (student.boxes - target.boxes).abs().sum(-1)
    return l1, 1 - generalized_iou(student.boxes, target.boxes)
