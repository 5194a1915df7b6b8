"""Post-processing: which pairs of query and class win, and boxes in pixels."""

from __future__ import annotations

import torch

from detrofit.model.output import Prediction
from detrofit.model.postprocess import postprocess


def test_best_pairs_of_query_and_class_in_pixels() -> None:
    logits = torch.tensor([[[-9.0, 3.0], [2.0, -9.0], [1.0, 4.0]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.2, 0.4], [0.1, 0.1, 0.2, 0.2], [0.5, 0.25, 1.0, 0.5]]])
    found = postprocess(Prediction(logits, boxes), torch.tensor([[100, 200]]), max_detections=3)
    assert found.labels.tolist() == [[1, 1, 0]]
    assert found.scores.allclose(torch.tensor([[4.0, 3.0, 2.0]]).sigmoid())
    expected = [[0.0, 0.0, 200.0, 50.0], [80.0, 30.0, 120.0, 70.0], [0.0, 0.0, 40.0, 20.0]]
    assert found.boxes.allclose(torch.tensor([expected]), atol=1e-4)


def test_no_more_than_there_are_and_full_precision() -> None:
    prediction = Prediction(torch.randn(2, 4, 3).bfloat16(), torch.rand(2, 4, 4).bfloat16())
    found = postprocess(prediction, torch.full((2, 2), 64), max_detections=300)
    assert found.scores.shape == (2, 12) and found.boxes.shape == (2, 12, 4)
    assert found.scores.dtype == found.boxes.dtype == torch.float32
    assert (found.scores.diff(dim=1) <= 0).all()
