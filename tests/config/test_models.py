from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError, build
from detrofit.config.models import frame_and_choices, model_names, stock_model
from detrofit.model.build import assemble


@pytest.mark.parametrize("name", model_names())
def test_every_model_of_the_zoo_builds_and_says_what_it_is(name):
    with torch.device("meta"):
        model, filled = assemble(*frame_and_choices(name), num_classes=80)
    assert stock_model(name).description
    assert {"backbone", "encoder.fusion", "loss.box"} <= {place.address for place in filled}
    assert model.num_classes == 80


def test_settings_go_over_the_frame():
    with torch.device("meta"):
        model = build("rtdetr-n", num_classes=3, settings={"num_queries": 50, "strides": [4, 8, 16, 32]})
    assert model.frame.num_queries == 50 and model.frame.hidden_dim == 128
    assert model.backbone.strides == (4, 8, 16, 32)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_querys": 5}, r"model\.num_querys: .*did you mean 'num_queries'"),
        ({"num_queries": 0}, r"model\.num_queries: input should be greater"),
        ({"strides": [8, 32]}, "strides must run to 32 in steps of two"),
        ({"points": [4, 4]}, "points takes one number or one for each of the 3 levels"),
        ({"eval_decoder_layers": 5}, "eval_decoder_layers cannot exceed decoder_layers"),
        ({"decoder_dim": 136, "heads": 16}, "decoder_dim must be a multiple of heads"),
    ],
)
def test_a_bad_number_of_the_frame_is_named(settings, message):
    with pytest.raises(DetrofitError, match=message):
        build("rtdetr-n", num_classes=3, settings=settings)


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(DetrofitError, match="there is no model 'rtdetr-r81'; did you mean 'rtdetr-r"):
        stock_model("rtdetr-r81")


def test_a_detector_needs_a_class():
    with pytest.raises(DetrofitError, match="at least one class"):
        build("rtdetr-n", num_classes=0)
