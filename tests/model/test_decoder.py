"""The decoder: what training and evaluation return, where gradients stop, empty batches, precision, export."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.model.decoder import Decoder, SelfAttention
from detrofit.model.output import DetectorOutput
from detrofit.weights.official_decoder import decoder_name


def make_decoder(**options: Any) -> Decoder:
    torch.manual_seed(0)
    settings = {"hidden_dim": 16, "num_queries": 7, "num_heads": 4, "feedforward_dim": 32, "num_denoising": 6}
    return Decoder([8, 8], [8, 16], 3, **(settings | options))


def make_maps(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, 8, size, size + 2, generator=generator) for size in (6, 3)]


def make_targets() -> list[dict[str, Tensor]]:
    boxes = torch.tensor([[0.5, 0.5, 0.3, 0.2], [0.3, 0.4, 0.2, 0.2]])
    nothing = {"labels": torch.zeros(0, dtype=torch.int64), "boxes": torch.zeros(0, 4)}
    return [{"labels": torch.tensor([0, 2]), "boxes": boxes}, nothing]


def perturb_box_heads(decoder: Decoder) -> None:
    """The heads start with no change to a box; only with other values do gradients tell where they came from."""
    for head in decoder.box_head.values():
        torch.nn.init.normal_(head.layers[-1].weight, std=0.1)  # type: ignore[index, union-attr, arg-type]


def everything(output: DetectorOutput) -> Tensor:
    predictions = [output.prediction, *output.auxiliary, *output.encoder, *output.denoising]
    return torch.stack([values.float().square().sum() for pair in predictions for values in pair]).sum()


def test_training_returns_a_prediction_of_every_layer() -> None:
    output = make_decoder().train()(make_maps(), make_targets())
    assert len(output.auxiliary) == 2 and len(output.encoder) == 1 and len(output.denoising) == 3
    assert output.prediction.logits.shape == (2, 7, 3) and output.prediction.boxes.shape == (2, 7, 4)
    assert output.denoising_layout is not None
    assert all(pair.boxes.shape == (2, output.denoising_layout.num_queries, 4) for pair in output.denoising)


def test_evaluation_returns_only_the_last_layer_that_runs() -> None:
    decoder = make_decoder(eval_layers=2).eval()
    calls: list[str] = []
    for name, head in decoder.score_head.items():
        head.register_forward_hook(lambda *_, name=name: calls.append(name))
    output = decoder(make_maps(), make_targets())
    assert calls == ["layer1"]
    assert not output.auxiliary and not output.encoder and not output.denoising and output.denoising_layout is None


def test_a_layers_boxes_carry_the_gradient_of_one_layer_more() -> None:
    decoder = make_decoder().train()
    perturb_box_heads(decoder)
    output = decoder(make_maps())
    decoder.zero_grad()
    output.prediction.boxes.sum().backward()
    reached = {name: head.layers[-1].weight.grad is not None for name, head in decoder.box_head.items()}  # type: ignore[index, union-attr]
    assert reached == {"layer0": False, "layer1": True, "layer2": True}
    assert decoder.query_selection.box_head.layers[-1].weight.grad is None


def test_queries_start_detached_from_the_encoders_prediction() -> None:
    decoder = make_decoder().train()
    decoder(make_maps()).prediction.logits.sum().backward()
    assert all(parameter.grad is None for parameter in decoder.query_selection.parameters())


def test_denoising_does_not_change_what_the_matching_queries_say() -> None:
    decoder = make_decoder().train()
    for projection in decoder.input_projection.values():
        projection.eval()
    plain, denoised = decoder(make_maps()), decoder(make_maps(), make_targets())
    torch.testing.assert_close(denoised.prediction.logits, plain.prediction.logits)
    torch.testing.assert_close(denoised.prediction.boxes, plain.prediction.boxes)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_self_attention_is_that_of_a_whole_mask(precision: torch.dtype) -> None:
    """The first queries see some, the others each other: what one mask over all of them says."""
    layer, x, position = SelfAttention(16, 4), torch.randn(2, 7, 16), torch.randn(2, 7, 16)
    visible = torch.tensor([[1, 1, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0, 1], [0, 0, 1, 1, 1, 1, 1]]).bool()
    mask = torch.cat((visible, (torch.arange(7) >= 3).expand(4, 7)))
    whole = nn.MultiheadAttention(16, 4, batch_first=True)
    whole.load_state_dict(layer.state_dict())
    expected, _ = whole(x + position, x + position, x, attn_mask=~mask, need_weights=False)
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        actual = layer(x, position, visible)
    assert actual.dtype == precision
    tolerance = 1e-5 if precision == torch.float32 else 0.03
    torch.testing.assert_close(actual.float(), expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_every_parameter_takes_part_even_without_boxes(precision: torch.dtype) -> None:
    decoder = make_decoder().train()
    targets = [make_targets()[1]] * 2
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        output = decoder(make_maps(), targets)
    assert output.prediction.boxes.dtype == torch.float32
    everything(output).backward()
    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is None] == []
    assert all(parameter.grad.isfinite().all() for parameter in decoder.parameters())  # type: ignore[union-attr]


def test_bfloat16_stays_close_to_float32() -> None:
    decoder = make_decoder().eval()
    with torch.no_grad():
        expected = decoder(make_maps())
        with torch.autocast("cpu", torch.bfloat16):
            output = decoder(make_maps())
        whole = make_decoder().bfloat16().eval()([level.bfloat16() for level in make_maps()])
    for other in (output, whole):
        scores = other.prediction.logits.float().sigmoid().amax((1, 2))
        torch.testing.assert_close(scores, expected.prediction.logits.sigmoid().amax((1, 2)), atol=0.02, rtol=0.1)


def test_first_boxes_are_the_anchors_and_first_scores_are_low() -> None:
    decoder = make_decoder().train()
    output = decoder(make_maps())
    for layer in (*output.auxiliary, output.prediction):
        torch.testing.assert_close(layer.boxes, output.encoder[0].boxes, atol=1e-4, rtol=0.0)
    assert decoder.score_head["layer0"].bias.sigmoid().allclose(torch.tensor(0.01))  # type: ignore[operator, union-attr]


def test_strides_beyond_the_maps_are_made_from_the_last_one() -> None:
    decoder = Decoder([8, 8], [8, 16, 32, 64], 3, hidden_dim=16, num_heads=4, feedforward_dim=32, num_queries=7)
    _, shapes = decoder.tokens(make_maps())
    assert shapes == [(6, 8), (3, 5), (2, 3), (1, 2)]


def test_state_holds_parameters_and_norm_statistics_alone() -> None:
    decoder = make_decoder().eval()
    before = set(decoder.state_dict())
    decoder(make_maps())
    assert set(decoder.state_dict()) == before
    assert not [name for name in before if "anchor" in name or "scale" in name]
    assert "layer0.cross_attention.sampling_offsets.weight" in before and "box_head.layer2.layers.0.weight" in before


@pytest.mark.parametrize("sampling", ["bilinear", "discrete"])
def test_exported_decoder_is_the_eager_one(sampling: str) -> None:
    decoder, maps = make_decoder(sampling=sampling).eval(), make_maps(1)
    exported = torch.export.export(decoder, (maps,))
    with torch.no_grad():
        expected, output = decoder(maps), exported.module()(maps)
    torch.testing.assert_close(output.prediction.boxes, expected.prediction.boxes)
    torch.testing.assert_close(output.prediction.logits, expected.prediction.logits)


def test_learnt_content_takes_part_also_where_there_are_fewer_cells_than_queries() -> None:
    decoder = make_decoder(learnt_content=True, num_queries=200).train()
    output = decoder(make_maps(), make_targets())
    assert output.prediction.boxes.shape == (2, 6 * 8 + 3 * 5, 4)
    everything(output).backward()
    assert [name for name, parameter in decoder.named_parameters() if parameter.grad is None] == []


def test_official_names() -> None:
    assert decoder_name("input_proj.1.conv.weight", [8, 16]) == "input_projection.stride16.conv.weight"
    assert decoder_name("enc_output.1.bias", [8]) == decoder_name("enc_output.norm.bias", [8])
    assert decoder_name("tgt_embed.weight", [8]) == "query_selection.learnt_content.weight"
    assert decoder_name("decoder.layers.2.cross_attn.num_points_scale", [8]) is None
    assert decoder_name("anchors", [8]) is None
    with pytest.raises(DetrofitError, match="enc_outputs"):
        decoder_name("enc_outputs.weight", [8])
    with pytest.raises(DetrofitError, match="beyond the 2"):
        decoder_name("input_proj.2.conv.weight", [8, 16])


def test_a_half_precision_sum_that_overflows_does_not_reach_the_norm() -> None:
    class Overflowing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((*x.shape[:-1], 16), torch.inf, dtype=torch.float16)

    decoder = make_decoder().eval()
    decoder.layer1.linear2 = Overflowing()  # as under autocast: float16 beside norms in float32
    assert all(values.isfinite().all() for values in decoder(make_maps()).prediction)
