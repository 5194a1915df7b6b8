from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError, build
from detrofit.distillation.teacher import load_teacher
from detrofit.weights.model_file import ModelInfo, load_model, save_model

NAMES = ("cat", "dog", "cow")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A model file with another backbone block, more queries and one decoder layer."""
    model = build(
        "rtdetr-n",
        {"backbone.stage4.block": "extradw"},
        num_classes=3,
        settings={"num_queries": 30, "decoder_layers": 1},
    )
    target = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_model(target, model, ModelInfo("rtdetr-n", NAMES, (1, 2, 3), (64, 64)))
    return target


def test_classes_are_in_the_students_order_and_the_rest_is_the_models(file):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = load_model(file)(images).prediction
    found = load_teacher(file, ("cow", "cat"))(images).prediction
    torch.testing.assert_close(found.logits, expected.logits[..., [2, 0]], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-4, rtol=1e-4)
    assert not found.logits.requires_grad


def test_a_class_that_it_does_not_know_is_named(file):
    with pytest.raises(DetrofitError, match=r"does not know the class 'dogg' .*'dog'"):
        load_teacher(file, ("dogg",))


def test_what_is_no_model_file_is_one_line(tmp_path):
    with pytest.raises(DetrofitError, match=r"nothing\.safetensors does not exist"):
        load_teacher(tmp_path / "nothing.safetensors", NAMES)
