"""The criterion: what it sums, divides and names, and what it promises to a training loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from detrofit.model.criterion import Criterion
from detrofit.model.matcher import HungarianMatcher
from detrofit.model.output import DenoisingLayout, DetectorOutput, Prediction
from detrofit.parts.losses.giou import GeneralizedIoULoss
from detrofit.parts.losses.nwd import NormalizedWassersteinDistance
from detrofit.parts.losses.vfl import VarifocalLoss

SIZE = (320, 640)
CLASSES, QUERIES, GROUPS = 4, 12, 2
Targets = list[dict[str, Tensor]]


def build(**options: object) -> Criterion:
    matcher = HungarianMatcher(GeneralizedIoULoss())
    return Criterion(GeneralizedIoULoss(), VarifocalLoss(), matcher, **options)  # type: ignore[arg-type]


def random_boxes(*shape: int) -> Tensor:
    return torch.cat([torch.rand(*shape, 2), 0.05 + 0.3 * torch.rand(*shape, 2)], dim=-1)


def random_prediction(images: int, queries: int, classes: int = CLASSES) -> Prediction:
    logits, boxes = torch.randn(images, queries, classes), random_boxes(images, queries)
    return Prediction(logits.requires_grad_(), boxes.requires_grad_())


def random_step(counts: list[int]) -> tuple[DetectorOutput, Targets]:
    torch.manual_seed(0)
    targets = [{"labels": torch.randint(CLASSES, (n,)), "boxes": random_boxes(n)} for n in counts]
    size = 2 * max(counts)
    positives = [(size * torch.arange(GROUPS)[:, None] + torch.arange(n)).flatten() for n in counts]
    layout = DenoisingLayout(GROUPS, GROUPS * size, positives) if size else None
    last, *others = [random_prediction(len(counts), QUERIES) for _ in range(4)]
    denoising = [random_prediction(len(counts), GROUPS * size) for _ in range(2)] if size else []
    return DetectorOutput(last, others[:2], others[2:], denoising, layout, torch.empty(0)), targets


def alone(prediction: Prediction) -> DetectorOutput:
    return DetectorOutput(prediction, [], [], [], None, torch.empty(0))


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def gradients(output: DetectorOutput) -> list[Tensor | None]:
    predictions = (output.prediction, *output.auxiliary, *output.encoder, *output.denoising)
    return [values.grad for prediction in predictions for values in prediction]


def test_names_in_the_order_of_the_layers() -> None:
    output, targets = random_step([3, 1])
    layers = ["", ".layer0", ".layer1", ".encoder0", ".denoising0", ".denoising1"]
    assert list(build()(output, targets, SIZE)) == [term + layer for layer in layers for term in ("class", "l1", "box")]


def test_every_layer_as_if_it_were_alone() -> None:
    output, targets = random_step([3, 0, 5])
    criterion = build()
    losses = criterion(output, targets, SIZE)
    for name, prediction in [("layer1", output.auxiliary[1]), ("encoder0", output.encoder[0])]:
        for term, value in criterion(alone(prediction), targets, SIZE).items():
            torch.testing.assert_close(losses[f"{term}.{name}"], value)


def test_terms_by_hand() -> None:
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.2], [0.1, 0.1, 0.1, 0.1]]])
    targets = [{"labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.4]])}]
    losses = build()(alone(Prediction(torch.zeros(1, 2, 2), boxes)), targets, SIZE)
    matched, background = 0.5 * math.log(2), 0.75 * 0.25 * math.log(2)
    assert losses["class"].item() == pytest.approx(matched + 3 * background)
    assert losses["l1"].item() == pytest.approx(5 * 0.2)
    assert losses["box"].item() == pytest.approx(2 * 0.5)


def test_denoising_queries_have_the_boxes_that_they_come_from() -> None:
    output, targets = random_step([2, 1])
    size = output.denoising[0].boxes.shape[1] // GROUPS
    difference = 0.0
    for image, target in enumerate(targets):
        for group in range(GROUPS):
            for number, box in enumerate(target["boxes"]):
                difference += (output.denoising[0].boxes[image, group * size + number] - box).abs().sum().item()
    losses = build()(output, targets, SIZE)
    assert losses["l1.denoising0"].item() == pytest.approx(5 * difference / (3 * GROUPS), rel=1e-5)


def test_parts_of_a_batch_add_up_when_the_number_of_boxes_is_given() -> None:
    output, targets = random_step([3, 0, 4, 2])
    criterion = build()
    whole = criterion(alone(output.prediction), targets, SIZE)
    halves = [slice(0, 2), slice(2, 4)]
    parts = [criterion(alone(Prediction(*(v[h] for v in output.prediction))), targets[h], SIZE, 9.0) for h in halves]
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value)


def test_without_any_box_every_prediction_still_has_a_gradient() -> None:
    output, targets = random_step([0, 0])
    losses = build()(output, targets, SIZE)
    assert losses["l1"].item() == losses["box.layer0"].item() == 0
    total(losses).backward()
    for gradient in gradients(output):
        assert gradient is not None and gradient.isfinite().all()


def test_an_unmatched_broken_prediction_makes_the_loss_not_finite() -> None:
    output, targets = random_step([2, 2])
    with torch.no_grad():
        output.auxiliary[0].boxes[0, 0] = float("nan")
    losses = build()(output, targets, SIZE)
    assert losses["l1.layer0"].isnan() and losses["l1"].isfinite()


def test_a_class_agnostic_encoder_is_supervised_against_one_class() -> None:
    output, targets = random_step([3, 2])
    agnostic = random_prediction(2, QUERIES, classes=1)
    losses = build()(output._replace(encoder=[agnostic]), targets, SIZE)
    as_one_class = [{**target, "labels": torch.zeros_like(target["labels"])} for target in targets]
    for term, value in build()(alone(agnostic), as_one_class, SIZE).items():
        torch.testing.assert_close(losses[f"{term}.encoder0"], value)


def test_shared_matches_are_those_of_the_last_layer() -> None:
    output, targets = random_step([3, 2])
    flipped = Prediction(output.prediction.logits.flip(1), output.prediction.boxes.flip(1))
    output = output._replace(auxiliary=[flipped])
    by_itself, shared = build()(output, targets, SIZE), build(share_matches=True)(output, targets, SIZE)
    torch.testing.assert_close(by_itself["l1.layer0"], by_itself["l1"])
    assert shared["l1.layer0"] > by_itself["l1.layer0"]


@pytest.mark.parametrize("scale", ["iou", "giou"])
def test_box_loss_scaled_by_quality_stays_finite_without_boxes(scale: str) -> None:
    for counts in ([2, 3], [0, 0]):
        output, targets = random_step(counts)
        total(build(box_loss_scale=scale)(output, targets, SIZE)).backward()
        assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients(output))


def test_half_precision_outputs_under_autocast_give_full_precision_losses() -> None:
    output, targets = random_step([3, 2])
    half = alone(Prediction(*(values.detach().bfloat16() for values in output.prediction)))
    full = alone(Prediction(*(values.float() for values in half.prediction)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = build()(half, targets, SIZE)
    for name, value in build()(full, targets, SIZE).items():
        assert losses[name].dtype == torch.float32
        torch.testing.assert_close(losses[name], value)


def test_a_class_loss_sees_full_precision_whatever_it_does() -> None:
    seen: list[torch.dtype] = []

    class Plain(torch.nn.Module):
        def forward(self, logits: Tensor, one_hot: Tensor, iou: Tensor) -> Tensor:
            seen.extend(values.dtype for values in (logits, one_hot, iou))
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")

    output, targets = random_step([3, 2])
    half = alone(Prediction(*(values.detach().bfloat16() for values in output.prediction)))
    Criterion(GeneralizedIoULoss(), Plain(), HungarianMatcher(GeneralizedIoULoss()))(half, targets, SIZE)
    assert seen == [torch.float32] * 3


def test_the_image_size_reaches_the_box_losses() -> None:
    output, targets = random_step([3, 2])
    nwd = NormalizedWassersteinDistance(constant=100.0)
    criterion = Criterion(nwd, VarifocalLoss(), HungarianMatcher(nwd))
    small, large = (criterion(alone(output.prediction), targets, size)["box"] for size in ((32, 32), (640, 640)))
    assert small < large
