from __future__ import annotations

import pytest
import torch

from detrofit import DetrofitError, build
from detrofit.weights.checkpoint import convert_by_order
from detrofit.weights.transfer import transfer

SETTINGS = {"num_queries": 20, "decoder_layers": 1, "num_denoising": 10}
EMBEDDING = "decoder.denoising.embedding.weight"


def nano(classes: int, seed: int = 0, **settings):
    return build("rtdetr-n", num_classes=classes, settings={**SETTINGS, **settings}, seed=seed)


def test_the_same_classes_take_everything():
    source, model = nano(2, seed=5), nano(2)
    report = transfer(model, source.state_dict(), ["a", "b"], ["a", "b"])
    assert not report.fresh and not report.by_class and report.kept_share == 1.0
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_more_classes_leave_the_padding_of_the_denoising_embedding_alone():
    source, model = nano(2, seed=5), nano(3)
    report = transfer(model, source.state_dict(), ["a", "b"], ["b", "c", "a"])
    given, taken = source.state_dict()[EMBEDDING], model.state_dict()[EMBEDDING]
    assert EMBEDDING in report.by_class
    assert torch.equal(taken[0], given[1]) and torch.equal(taken[2], given[0])
    assert not taken[3].any(), "the row of the padding class"


def test_classes_in_another_order_are_sorted_by_name():
    source, model = nano(2, seed=5), nano(2)
    transfer(model, source.state_dict(), ["a", "b"], ["b", "a"])
    name = "decoder.score_head.layer0.bias"
    assert torch.equal(model.state_dict()[name], source.state_dict()[name].flip(0))


@pytest.mark.parametrize(("given", "wanted"), [("agnostic", "agnostic"), ("agnostic", "default")])
def test_a_head_without_classes_has_no_rows_by_class(given, wanted):
    source, model = nano(3, seed=5, query_selection=given), nano(3, query_selection=wanted)
    report = transfer(model, source.state_dict(), ["a", "b", "c"], ["c", "x", "a"])
    name = "decoder.query_selection.score_head.weight"
    assert name not in report.by_class
    assert (name in report.fresh) == (given != wanted)


def test_tensors_are_paired_by_order_only_where_every_shape_agrees():
    given = {"x": torch.ones(2, 3), "x.num_batches_tracked": torch.tensor(7), "y": torch.zeros(2)}
    own = {"a.weight": torch.rand(2, 3), "a.bias": torch.rand(2), "n.num_batches_tracked": torch.tensor(0)}
    assert convert_by_order(given, own).keys() == {"a.weight", "a.bias"}
    with pytest.raises(DetrofitError, match=r"'y' \(2,\) stands where 'a.bias' \(3,\) should"):
        convert_by_order(given, {**own, "a.bias": torch.rand(3)})
    with pytest.raises(DetrofitError, match="2 given, 1 wanted"):
        convert_by_order(given, {"a.weight": torch.rand(2, 3)})
