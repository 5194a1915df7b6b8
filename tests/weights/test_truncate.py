from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError
from detrofit.weights.truncate import truncated
from tests.deployment.models import draw_model


@pytest.fixture(scope="module")
def model():
    return draw_model("rtdetr-n", {"backbone.stage4.block": "extradw"}, decoder_layers=3)


def test_the_kept_layers_say_what_they_said_as_auxiliary_heads(model):
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    model.decoder.train(True)  # the decoder alone: all layers answer, and no norm changes
    for module in model.decoder.modules():
        if module is not model.decoder:
            module.eval()
    output = model(images)
    model.eval()
    layers = [*output.auxiliary, output.prediction]
    for count in (1, 2, 3):
        shorter = truncated(model, num_queries=model.frame.num_queries, decoder_layers=count)
        found = shorter(images).prediction
        torch.testing.assert_close(found.logits, layers[count - 1].logits)
        torch.testing.assert_close(found.boxes, layers[count - 1].boxes)
        assert len(shorter.state_dict()) <= len(model.state_dict())
        assert shorter.frame.decoder_layers == count and shorter.retrofit == model.retrofit


def test_fewer_queries_are_the_best_of_them(model):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    few, all_ = truncated(model, num_queries=7, decoder_layers=2)(images), model(images)
    assert few.prediction.logits.shape[1] == 7
    assert few.selected.tolist() == all_.selected[:, :7].tolist()


def test_fewer_learnt_queries_are_the_first_of_them():
    model = draw_model("rtdetr-n", {}, learnt_queries=True, num_queries=9)
    few = truncated(model, num_queries=4, decoder_layers=1)
    contents = [each.decoder.query_selection.learnt_content.weight for each in (few, model)]
    assert torch.equal(contents[0], contents[1][:4])
    with pytest.raises(DetrofitError, match="has learnt 9 queries, and cannot have 10"):
        truncated(model, num_queries=10, decoder_layers=1)


@pytest.mark.parametrize("layers", [0, 4])
def test_layers_that_are_not_there_are_refused(model, layers):
    with pytest.raises(DetrofitError, match="has 3 decoder layers"):
        truncated(model, num_queries=10, decoder_layers=layers)
