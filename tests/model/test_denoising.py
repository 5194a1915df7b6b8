"""Denoising: who sees whom, noise of its own for each image, empty batches, agreement between processes."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from detrofit.model.denoising import Denoising, visibility
from detrofit.model.heads import inverse_sigmoid


def target(*labels: int) -> dict[str, Tensor]:
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.1 * (index + 1)] for index in range(len(labels))]).reshape(-1, 4)
    return {"labels": torch.tensor(labels, dtype=torch.int64), "boxes": boxes}


def generators(count: int) -> list[Generator]:
    return [Generator().manual_seed(image) for image in range(count)]


def test_groups_are_separate_and_targets_do_not_leak() -> None:
    visible = visibility(groups=2, width=1, num_matching=3)
    assert visible.shape == (4, 7)
    assert visible[:2, :2].all() and visible[2:4, 2:4].all()  # a group sees itself
    assert not visible[:2, 2:4].any() and not visible[2:4, :2].any()  # and no other group
    assert visible[:, 4:].all()  # everybody sees the matching queries


def test_number_of_groups_follows_the_image_with_most_boxes() -> None:
    layout = Denoising(3, 8, num_queries=12)([target(0, 1, 2), target(1)], 5).layout
    assert (layout.num_groups, layout.num_queries) == (4, 24)
    assert layout.positives[1].tolist() == [0, 6, 12, 18]
    assert Denoising(3, 8, num_queries=2)([target(0, 1, 2)], 5).layout.num_groups == 1


def test_positives_stay_near_and_negatives_go_farther() -> None:
    denoising = Denoising(3, 8, num_queries=200, label_noise=0.0, box_noise=0.4)
    boxes = denoising([target(0)], 1).reference.sigmoid().view(200, 2, 4)
    low, high = boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2
    half_size = torch.tensor([0.1, 0.05])
    moved = torch.cat((low - (0.5 - half_size), high - (0.5 + half_size)), -1).abs() / (0.4 * half_size.repeat(2))
    assert moved[:, 0].max() <= 1 + 1e-4
    assert moved[:, 1].min() >= 1 - 1e-4 and moved[:, 1].max() <= 2 + 1e-4


def test_a_quarter_of_the_labels_is_drawn_anew_and_padding_never() -> None:
    denoising = Denoising(1000, 8, num_queries=4000, label_noise=0.5)
    torch.nn.init.zeros_(denoising.embedding.weight)
    denoising.embedding.weight.data[7] = 1.0
    content = denoising([target(7), target()], 1).content[..., 0]
    assert 0.7 < content[0].mean() < 0.8
    assert not content[1].any()


def test_noise_of_an_image_does_not_depend_on_its_neighbours() -> None:
    denoising = Denoising(50, 8, num_queries=12)
    alone = denoising([target(3, 4)], 5, generators=generators(1))
    together = denoising([target(3, 4), target(0, 1, 2)], 5, generators=generators(2))
    common = together.layout.num_groups * 2
    chosen, ours = together.layout.positives[0][:common], alone.layout.positives[0][:common]
    assert torch.equal(together.reference[0, chosen], alone.reference[0, ours])
    assert torch.equal(together.content[0, chosen], alone.content[0, ours])
    again = denoising([target(3, 4)], 5, generators=generators(1))
    assert torch.equal(again.reference, alone.reference)


def test_processes_that_agree_on_the_most_boxes_make_the_queries_of_one_process() -> None:
    denoising = Denoising(50, 8, num_queries=12)
    targets, seeds = [target(3), target(0, 1, 2)], generators(2)
    whole = denoising(targets, 5, generators=generators(2))
    for image in range(2):
        part = denoising([targets[image]], 5, max_boxes=3, generators=[seeds[image]])
        assert torch.equal(part.reference[0], whole.reference[image])
        assert torch.equal(part.visible, whole.visible)
        assert torch.equal(part.layout.positives[0], whole.layout.positives[image])


def test_a_batch_without_boxes_keeps_the_graph() -> None:
    denoising = Denoising(3, 8)
    queries = denoising([target(), target()], 5)
    assert (queries.layout.num_groups, queries.layout.num_queries) == (1, 2)
    assert [len(positives) for positives in queries.layout.positives] == [0, 0]
    queries.content.sum().backward()
    assert denoising.embedding.weight.grad is not None and not denoising.embedding.weight.grad.any()
    assert torch.isfinite(queries.reference).all()


def test_inverse_sigmoid_is_finite_everywhere() -> None:
    values = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0])
    assert torch.isfinite(inverse_sigmoid(values)).all()
    assert inverse_sigmoid(values).sigmoid().allclose(values.clamp(0, 1), atol=2e-5)
