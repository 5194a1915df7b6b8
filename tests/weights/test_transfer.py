from __future__ import annotations

import pytest
import torch

from detrofit import build
from detrofit.weights.transfer import transfer
from detrofit.weights.transfer_report import transfer_json, transfer_lines

SETTINGS = {"num_queries": 20, "decoder_layers": 1, "num_denoising": 10}
EMBEDDING = "decoder.denoising.embedding.weight"


def nano(classes: int, seed: int = 0, retrofit=None, **settings):
    return build("rtdetr-n", retrofit, num_classes=classes, settings={**SETTINGS, **settings}, seed=seed)


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


def test_kernels_of_another_size_are_padded_or_cut_about_their_middle():
    retrofit = {"backbone.stage4.block": {"part": "extradw", "start_kernel": 3, "middle_kernel": 5}}
    source = build("rtdetr-n", retrofit, num_classes=2, settings=SETTINGS, seed=5).eval()
    retrofit["backbone.stage4.block"] |= {"start_kernel": 5}
    wider = build("rtdetr-n", retrofit, num_classes=2, settings=SETTINGS).eval()
    report = transfer(wider, source.state_dict(), ["a", "b"], ["a", "b"])
    assert report.resized and not report.fresh and report.pretrained == "model"
    assert all(".start" in name and name.endswith("conv.weight") for name in report.resized)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        outputs = [model.backbone(images)[-1] for model in (source, wider)]
    torch.testing.assert_close(*outputs)  # zeros around a kernel change nothing
    retrofit["backbone.stage4.block"] |= {"start_kernel": 3}
    back = build("rtdetr-n", retrofit, num_classes=2, settings=SETTINGS)
    transfer(back, wider.state_dict(), ["a", "b"], ["a", "b"])
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in back.state_dict().items())


def test_what_the_model_has_no_place_for_is_told():
    state, model = dict(nano(2, seed=5).state_dict()), nano(2, retrofit={"backbone.stage4.block": "extradw"})
    state["backbone.stem.conv1.conv.bias"] = torch.zeros(8)  # where the model's convolution has none
    state["encoder.attention.layer0.linear1.weight"] = torch.zeros(3, 3)
    report = transfer(model, state, ["a", "b"], ["a", "b"])
    rest = {name for name in report.unused if not name.startswith("backbone.stage4.block")}
    assert rest == {"backbone.stem.conv1.conv.bias", "encoder.attention.layer0.linear1.weight"}
    assert len(report.unused) > len(rest) and not any("num_batches" in name for name in report.unused)
    content = transfer_json(model, report, (64, 64))
    assert content["unused"] == list(report.unused)
    rooms = "backbone.stage4, encoder.attention, backbone.stem"
    assert transfer_lines(content)[-1] == f"  not used of the weights: {len(report.unused)} tensors, of {rooms}"


@pytest.mark.parametrize("queries", [12, 30])
def test_of_learnt_queries_the_first_are_taken(queries):
    source, model = nano(2, seed=5, learnt_queries=True), nano(2, learnt_queries=True, num_queries=queries)
    name, both = "decoder.query_selection.learnt_content.weight", min(20, queries)
    own = model.state_dict()[name].clone()
    report = transfer(model, source.state_dict(), ["a", "b"], ["a", "b"])
    assert report.resized == [name] and not report.fresh
    assert torch.equal(model.state_dict()[name][:both], source.state_dict()[name][:both])
    assert torch.equal(model.state_dict()[name][both:], own[both:])


def test_classes_are_the_same_in_the_spelling_that_data_sets_share():
    source, model = nano(4, seed=5), nano(4)
    names = ["person", "traffic light", "tv", "Person"]
    transfer(model, source.state_dict(), names, ["Person", "traffic_light", "tvmonitor", "PERSON "])
    name = "decoder.score_head.layer0.weight"
    given, taken = source.state_dict()[name], model.state_dict()[name]
    for row, wanted in enumerate([3, 1, 2, 0]):  # as written first, then in the shared spelling
        assert torch.equal(taken[row], given[wanted])


@pytest.mark.parametrize(
    ("retrofit", "pretrained"),
    [
        ({"backbone.stage4.block": "extradw"}, "model"),
        ({"encoder.fusion": "bifpn"}, "model"),
        ({"backbone": {"part": "resnet-vd", "depth": 18, "widths": [24, 32, 48, 64]}}, "nothing"),
    ],
)
def test_what_is_pretrained_after_a_swap(retrofit, pretrained):
    source = build("rtdetr-n", num_classes=2, settings={**SETTINGS, "decoder_layers": 3}, seed=5)
    model = build("rtdetr-n", retrofit, num_classes=2, settings={**SETTINGS, "decoder_layers": 3})
    assert transfer(model, source.state_dict(), ["a", "b"], ["a", "b"]).pretrained == pretrained


def test_a_tensor_without_rows_is_no_class_head():
    model = nano(2)
    report = transfer(
        model, {**nano(3).state_dict(), "decoder.score_head.layer0.bias": torch.tensor(1.0)}, ["a"], ["b"]
    )
    assert "decoder.score_head.layer0.bias" in report.fresh
