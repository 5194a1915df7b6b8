"""Time of matching plus losses, forward and backward: the batched criterion against a plain loop over the layers.

A training step's outputs: 8 images, 80 classes, 300 queries, 3 decoder layers, the encoder's selection and 3 layers of
200 denoising queries, 1 to 15 boxes an image. The loop does what is usually done: it matches each layer with the costs
between every image's queries and every image's boxes, and computes each loss of each layer by itself.

    python benchmarks/criterion.py [--device cuda] [--repeats 30] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from detrofit.model.criterion import Criterion
from detrofit.model.matcher import HungarianMatcher
from detrofit.model.output import DenoisingLayout, DetectorOutput, Prediction
from detrofit.parts.losses.giou import GeneralizedIoULoss
from detrofit.parts.losses.vfl import VarifocalLoss

BATCH, CLASSES, QUERIES, DENOISING_QUERIES, LAYERS = 8, 80, 300, 200, 3
IMAGE_SIZE = (640, 640)
Targets = list[dict[str, Tensor]]
Pairs = list[tuple[Tensor, Tensor]]


def random_boxes(*shape: int) -> Tensor:
    return torch.cat([torch.rand(*shape, 2), 0.05 + 0.3 * torch.rand(*shape, 2)], dim=-1)


def random_prediction(queries: int, device: str) -> Prediction:
    logits = (torch.randn(BATCH, queries, CLASSES) - 4).to(device).requires_grad_()
    return Prediction(logits, random_boxes(BATCH, queries).to(device).requires_grad_())


def random_step(device: str) -> tuple[DetectorOutput, Targets]:
    """The detector's outputs for a batch, and its targets."""
    counts = torch.randint(1, 16, (BATCH,)).tolist()
    targets = [{"labels": torch.randint(CLASSES, (n,)).to(device), "boxes": random_boxes(n).to(device)} for n in counts]
    groups = 100 // max(counts)
    group_size = DENOISING_QUERIES // groups
    positives = [(group_size * torch.arange(groups)[:, None] + torch.arange(n)).flatten() for n in counts]
    matched = [random_prediction(QUERIES, device) for _ in range(LAYERS + 1)]
    denoising = [random_prediction(DENOISING_QUERIES, device) for _ in range(LAYERS)]
    layout = DenoisingLayout(groups, DENOISING_QUERIES, positives)
    return DetectorOutput(matched[0], matched[1:-1], matched[-1:], denoising, layout, torch.empty(0)), targets


def loop_match(prediction: Prediction, targets: Targets) -> Pairs:
    """Match one layer with costs between all images."""
    labels, boxes = (torch.cat([target[key] for target in targets]) for key in ("labels", "boxes"))
    with torch.no_grad():
        score = prediction.logits.flatten(0, 1).sigmoid()[:, labels]
        background = 0.75 * score**2 * -(1 - score + 1e-8).log()
        classes = 0.25 * (1 - score) ** 2 * -(score + 1e-8).log() - background
        predicted = prediction.boxes.flatten(0, 1)
        corners = box_convert(predicted, "cxcywh", "xyxy"), box_convert(boxes, "cxcywh", "xyxy")
        cost = 2 * classes + 5 * torch.cdist(predicted, boxes, p=1) - 2 * generalized_box_iou(*corners)
        blocks = cost.view(BATCH, -1, len(boxes)).cpu().split([len(target["labels"]) for target in targets], -1)
    pairs = [linear_sum_assignment(block[image]) for image, block in enumerate(blocks)]
    return [(torch.as_tensor(query), torch.as_tensor(target)) for query, target in pairs]


def loop_losses(prediction: Prediction, targets: Targets, pairs: Pairs, num_boxes: float) -> list[Tensor]:
    """The three losses of one layer."""
    device = prediction.logits.device
    image = torch.cat([torch.full_like(query, number) for number, (query, _) in enumerate(pairs)]).to(device)
    query = torch.cat([query for query, _ in pairs]).to(device)
    boxes, labels = (
        torch.cat([target[key][index.to(device)] for target, (_, index) in zip(targets, pairs)])
        for key in ("boxes", "labels")
    )
    matched = prediction.boxes[image, query]
    corners = box_convert(matched, "cxcywh", "xyxy"), box_convert(boxes, "cxcywh", "xyxy")
    classes = torch.full(prediction.logits.shape[:2], CLASSES, device=device)
    classes[image, query] = labels
    one_hot = functional.one_hot(classes, CLASSES + 1)[..., :-1]
    iou = torch.zeros(classes.shape, device=device)
    iou[image, query] = box_iou(*corners).diag().detach()
    score = iou[..., None] * one_hot
    weight = 0.75 * prediction.logits.sigmoid().detach() ** 2 * (1 - one_hot) + score
    by_class = functional.binary_cross_entropy_with_logits(prediction.logits, score, weight, reduction="none")
    by_box = 1 - generalized_box_iou(*corners).diag()
    return [by_class.sum() / num_boxes, 5 * (matched - boxes).abs().sum() / num_boxes, 2 * by_box.sum() / num_boxes]


def loop_criterion(output: DetectorOutput, targets: Targets) -> Tensor:
    num_boxes = sum(len(target["labels"]) for target in targets)
    losses: list[Tensor] = []
    for prediction in (output.prediction, *output.auxiliary, *output.encoder):
        losses += loop_losses(prediction, targets, loop_match(prediction, targets), num_boxes)
    layout = output.denoising_layout
    assert layout is not None
    pairs = [
        (query, torch.arange(len(target["labels"])).tile(layout.num_groups))
        for query, target in zip(layout.positives, targets)
    ]
    for prediction in output.denoising:
        losses += loop_losses(prediction, targets, pairs, num_boxes * layout.num_groups)
    return torch.stack(losses).sum()


def seconds(run: Callable[[], Tensor], device: str) -> float:
    start = time.perf_counter()
    run().backward()
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    output, targets = random_step(arguments.device)
    criterion = Criterion(GeneralizedIoULoss(), VarifocalLoss(), HungarianMatcher(GeneralizedIoULoss()))

    def batched() -> Tensor:
        return torch.stack(list(criterion(output, targets, IMAGE_SIZE).values())).sum()

    def loop() -> Tensor:
        return loop_criterion(output, targets)

    torch.testing.assert_close(batched(), loop(), rtol=1e-4, atol=1e-4)
    # In turn, so that a busy moment of the machine hits both; the first rounds warm up.
    rounds = [
        (seconds(batched, arguments.device), seconds(loop, arguments.device)) for _ in range(arguments.repeats + 3)
    ]
    ours, theirs = (1000 * statistics.median(times) for times in zip(*rounds[3:]))
    ratio = statistics.median(theirs / ours for ours, theirs in rounds[3:])
    print(f"batched {ours:.1f} ms, loop {theirs:.1f} ms, medians of {arguments.repeats}; ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
