"""Query selection: anchors, which tokens win, what has a gradient."""

from __future__ import annotations

import pytest
import torch

from detrofit.model.query_selection import QuerySelection, make_anchors


def test_anchors_are_squares_at_cell_centres_that_grow_with_the_stride() -> None:
    anchors, valid = make_anchors([(2, 4), (1, 2)], [8, 16], torch.empty(0))
    assert anchors.shape == (10, 4) and valid.all()
    boxes = anchors.sigmoid()
    assert boxes[1].allclose(torch.tensor([1.5 / 4, 0.5 / 2, 0.05, 0.05]))
    assert boxes[9].allclose(torch.tensor([1.5 / 2, 0.5, 0.1, 0.1]))


def test_anchors_at_the_rim_or_larger_than_the_image_are_invalid() -> None:
    anchors, valid = make_anchors([(80, 80), (3, 3)], [8, 256], torch.empty(0))
    valid = valid.squeeze(1).bool()
    assert not valid[:80].any() and not valid[6400:].any()
    assert valid[:6400].view(80, 80)[1:-1, 1:-1].all()
    assert torch.isinf(anchors[~valid]).all() and torch.isfinite(anchors[valid]).all()


def test_anchors_are_made_once_a_size_and_are_usable_in_training_after_inference() -> None:
    with torch.inference_mode():
        first, _ = make_anchors([(6, 5)], [8], torch.empty(0))
    assert make_anchors([(6, 5)], [8], torch.empty(0))[0] is first
    assert not first.is_inference()


def test_heads_are_trained_under_an_autocast_that_keeps_what_it_cast_without_gradient(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As older versions of torch do: with those, what is not forgotten after the pass without gradient has none."""
    selection, forgotten = QuerySelection(8, 3, num_queries=5).train(), []
    monkeypatch.setattr(torch, "clear_autocast_cache", lambda: forgotten.append(torch.is_grad_enabled()))
    memory = torch.randn(2, 12, 8)
    anchors, valid = make_anchors([(3, 4)], [8], memory)
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            selection(memory, anchors, valid)
            assert forgotten == [True] * enabled, "once, after the pass without gradient"
        forgotten.clear()


@pytest.mark.parametrize("method", ["default", "one2many", "agnostic"])
def test_selected_predictions_are_those_of_their_tokens(method: str) -> None:
    torch.manual_seed(0)
    selection = QuerySelection(8, 3, num_queries=5, method=method)  # type: ignore[arg-type]
    memory = torch.randn(2, 12, 8)
    anchors, valid = make_anchors([(3, 4)], [8], memory)
    selected = selection(memory, anchors, valid)
    features = selection.features(memory, valid)
    rows = torch.arange(2).unsqueeze(1)
    torch.testing.assert_close(selected.prediction.logits, selection.score_head(features)[rows, selected.tokens])
    torch.testing.assert_close(selected.content, features[rows, selected.tokens])
    torch.testing.assert_close(selected.reference, anchors[selected.tokens])  # the box head starts with no change
    assert not selected.content.requires_grad and not selected.reference.requires_grad
    assert selected.prediction.logits.requires_grad and selected.prediction.boxes.requires_grad


def test_learnt_content_is_one_for_all_images_and_learns() -> None:
    torch.manual_seed(0)
    plain, learnt = QuerySelection(8, 3, 5), QuerySelection(8, 3, 5, learnt_content=True)
    learnt.load_state_dict(plain.state_dict(), strict=False)
    memory = torch.randn(2, 12, 8)
    anchors, valid = make_anchors([(3, 4)], [8], memory)
    expected, selected = plain(memory, anchors, valid), learnt(memory, anchors, valid)
    assert learnt.learnt_content is not None
    assert torch.equal(selected.content[0], learnt.learnt_content.weight)
    assert torch.equal(selected.content[1], selected.content[0]) and selected.content.requires_grad
    torch.testing.assert_close(selected.reference, expected.reference)
    torch.testing.assert_close(selected.prediction.logits, expected.prediction.logits)
    learnt.num_queries = 3
    assert torch.equal(learnt(memory, anchors, valid).content[0], learnt.learnt_content.weight[:3])


def test_methods_rank_tokens_as_published() -> None:
    logits = torch.tensor([[[0.0, 5.0], [3.0, 4.0], [1.0, 2.0]]])
    assert QuerySelection(8, 2, 2).select(logits).tolist() == [[0, 1]]
    assert QuerySelection(8, 2, 3, "one2many").select(logits).tolist() == [[0, 1, 1]]
    assert QuerySelection(8, 2, 2, "agnostic").select(logits[..., :1]).tolist() == [[1, 2]]


def test_fewer_cells_than_queries_give_all_cells() -> None:
    assert QuerySelection(8, 2, 300).select(torch.randn(1, 6, 2)).shape == (1, 6)


def test_gradient_of_the_selected_is_that_of_going_through_all_tokens() -> None:
    torch.manual_seed(0)
    selection = QuerySelection(8, 3, num_queries=4)
    memory = torch.randn(1, 12, 8, requires_grad=True)
    anchors, valid = make_anchors([(3, 4)], [8], memory)
    selected = selection(memory, anchors, valid)
    actual = torch.autograd.grad(selected.prediction.logits.square().sum(), memory)[0]
    through_all = selection.score_head(selection.features(memory, valid))[:, selected.tokens[0]]
    torch.testing.assert_close(actual, torch.autograd.grad(through_all.square().sum(), memory)[0])
