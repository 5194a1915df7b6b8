from __future__ import annotations

import numpy as np
import pytest
import torch

from detrofit import DetrofitError
from detrofit.explanation.queries import QueryDetections, gradient_saliency, query_detections, sampling_points
from tests.deployment.models import draw_model


@pytest.fixture(scope="module")
def model():
    return draw_model("rtdetr-n", num_queries=12)


@pytest.fixture(scope="module")
def image():
    return torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0))


def test_detections_know_their_query(model, image):
    found = query_detections(model, image, 3)
    prediction = model(image[None]).prediction
    for query, label, score in zip(found.queries, found.labels, found.scores):
        assert prediction.logits[0, query, label].sigmoid().item() == pytest.approx(float(score), rel=1e-5)
    assert (np.diff(found.scores) <= 0).all()


def test_the_gradient_is_that_of_small_changes_of_the_map(image):
    """What the map says of a cell is by how much the logit grows when the cell does.

    In one layer, between which boxes are cut off the graph, and of cells that no query comes from.
    """
    model, image = draw_model("rtdetr-n", num_queries=12, decoder_layers=1).double(), image.double()
    with torch.no_grad():
        maps = model.maps(image[None])
        selected = model.decoder(maps).selected
        free = [cell for cell in range(8 * 12) if cell not in selected]
        growth = []
        for cell in free:
            logits = []
            for factor in (1 - 1e-6, 1 + 1e-6):
                changed = maps[0].flatten(2).clone()
                changed[:, :, cell] *= factor
                output = model.decoder([changed.view_as(maps[0]), *maps[1:]])
                assert output.selected.equal(selected)
                logits.append(output.prediction.logits[0])
            growth.append((logits[1] - logits[0]).clamp(min=0).numpy())
    compared = 0
    found = query_detections(model, image, 5)
    for query, label in zip(found.queries, found.labels):
        saliency = gradient_saliency(model, image, int(query), int(label), 8)
        assert saliency.shape == (8, 12) and saliency.max() in (0, 1) and saliency.min() >= 0
        told, expected = saliency.ravel()[free], np.array([each[query, label] for each in growth])
        np.testing.assert_allclose(told * expected.sum(), expected * told.sum(), atol=1e-4 * expected.sum())
        compared += np.count_nonzero(told)
    assert compared > 10, "the queries read this level"


def test_a_level_that_is_not_there_is_one_line(model, image):
    with pytest.raises(DetrofitError, match="no level of stride 4; it has 8, 16, 32"):
        gradient_saliency(model, image, 0, 0, 4)


def test_points_of_each_layer_sum_to_one_a_head_and_lie_where_the_layer_reads(model, image):
    layers = sampling_points(model, image, np.array([0, 3]))
    assert len(layers) == 2 and len(layers[0]) == model.frame.decoder_layers
    for layer in layers[1]:
        assert layer.locations.shape == (8, 12, 2) and layer.levels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
        np.testing.assert_allclose(layer.weights.sum(1), 1, atol=1e-5)
    attention = model.decoder.layer0.cross_attention
    attention.sampling_offsets.weight.data.zero_()
    attention.sampling_offsets.bias.data.zero_()
    centred = sampling_points(model, image, np.array([2]))[0][0].locations
    assert np.ptp(centred, axis=(0, 1)) == pytest.approx([0, 0], abs=1e-6), "without offsets all points are the centre"


def test_distinct_detections_are_of_different_objects():
    boxes = np.array([[0, 0, 1, 1], [0.01, 0, 1, 1], [0, 0, 1, 1], [0.5, 0.5, 0.6, 0.6]])
    found = QueryDetections(boxes, np.array([0.9, 0.8, 0.7, 0.6]), np.array([1, 1, 2, 1]), np.arange(4))
    assert found.distinct(3).queries.tolist() == [0, 2, 3] and found.distinct(2).queries.tolist() == [0, 2]
