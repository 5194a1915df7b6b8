"""Deformable attention: both ways of reading agree, discrete reads the cells it says, initial values, export."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from detrofit.model.deformable_attention import (
    DeformableAttention,
    nearest_cells,
    sample_on_grid,
    surrounding_cells,
)
from detrofit.model.weighted_rows import weighted_rows

SHAPES = [(5, 7), (3, 4)]


def random_reading(points: list[int], spread: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Values, locations (some far outside the map) and weights for 2 images, 6 queries, 3 heads."""
    cells = sum(height * width for height, width in SHAPES)
    locations = 0.5 + spread * torch.randn(2, 6, 3, sum(points), 2, dtype=torch.float64)
    weights = torch.rand(2, 6, 3, sum(points), dtype=torch.float64)
    return torch.randn(2, cells, 3, 4, dtype=torch.float64), locations, weights


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.1, 0.5, 3.0]), points=st.sampled_from([[2, 3], [1, 4]]))
def test_reading_by_cells_is_grid_sampling_with_its_gradients(seed: int, spread: float, points: list[int]) -> None:
    torch.manual_seed(seed)
    leaves = [values.requires_grad_() for values in random_reading(points, spread)]
    value, locations, weights = leaves
    by_grid = sample_on_grid(value, locations, weights, SHAPES, points)
    by_cells = weighted_rows(value, *surrounding_cells(locations, weights, SHAPES, points))
    torch.testing.assert_close(by_cells, by_grid, check_dtype=False, rtol=1e-5, atol=1e-6)
    upstream = torch.randn_like(by_grid)
    expected = torch.autograd.grad(by_grid, leaves, upstream)
    for actual, wanted in zip(torch.autograd.grad(by_cells, leaves, upstream), expected):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def test_locations_that_are_no_numbers_address_no_foreign_memory() -> None:
    value, locations, weights = random_reading([2, 2])
    locations[0, 0] = float("nan")
    locations[0, 1] = float("inf")
    cells, _ = surrounding_cells(locations, weights, SHAPES, [2, 2])
    assert cells.min() >= 0 and cells.max() < value.shape[1]


def test_discrete_reads_the_cell_below_and_right_of_a_centre() -> None:
    """The published rounding adds half a cell to a position that already counts from the map's edge."""
    size = 4
    centres = (torch.arange(size) + 0.5) / size
    locations = torch.stack((centres, centres.flip(0)), dim=-1).view(1, size, 1, 1, 2)
    cells = nearest_cells(locations, [(size, size)], [1]).flatten()
    x, y = torch.arange(1, size + 1).clamp(max=3), torch.arange(size, 0, -1).clamp(max=3)
    assert cells.tolist() == (y * size + x).tolist()


def test_discrete_and_bilinear_agree_half_a_cell_before_a_centre() -> None:
    """Where the published rounding lands on a cell's own number, bilinear reads that cell alone half a cell later."""
    torch.manual_seed(0)
    size = 4
    value, weights = torch.randn(1, size * size, 2, 3), torch.rand(1, size - 1, 2, 1)
    cells = torch.arange(size - 1)
    edges = (cells / size).view(1, -1, 1, 1, 1).expand(1, -1, 2, 1, 2)
    discrete = weighted_rows(value, nearest_cells(edges, [(size, size)], [1]), weights)
    bilinear = sample_on_grid(value, edges + 0.5 / size, weights, [(size, size)], [1])
    torch.testing.assert_close(discrete, bilinear)


def test_discrete_ends_both_axes_at_the_height() -> None:
    corner = torch.ones(1, 1, 1, 1, 2)
    assert nearest_cells(corner, [(3, 5)], [1]).item() == 2 * 5 + 2
    assert nearest_cells(corner, [(5, 3)], [1]).item() == 4 * 3 + 2


def test_first_offsets_lie_on_a_ring_and_weights_are_equal() -> None:
    attention = DeformableAttention(16, 4, num_levels=2, num_points=[2, 1])
    offsets = attention.sampling_offsets(torch.randn(16)).view(4, 3, 2)
    assert offsets.abs().amax(-1).allclose(torch.tensor([1.0, 2.0, 1.0]).expand(4, 3))
    assert offsets[:, 0].allclose(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]), atol=1e-6)
    assert not attention.attention_weights(torch.randn(16)).any()


def test_offsets_of_discrete_sampling_are_frozen() -> None:
    attention = DeformableAttention(16, 4, 2, sampling="discrete")
    assert not any(parameter.requires_grad for parameter in attention.sampling_offsets.parameters())


class _Read(nn.Module):
    def __init__(self, attention: DeformableAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, query: Tensor, reference: Tensor, memory: Tensor) -> Tensor:
        return self.attention(query, reference, memory, SHAPES)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("sampling", ["bilinear", "discrete"])
def test_exported_attention_is_the_eager_one_from_common_operators(sampling: str) -> None:
    torch.manual_seed(0)
    module = _Read(DeformableAttention(16, 4, 2, 3, sampling)).eval()  # type: ignore[arg-type]
    inputs = (torch.randn(1, 5, 16), torch.rand(1, 5, 4), torch.randn(1, 47, 16))
    with torch.no_grad():
        expected = module(*inputs)
        exported, traced = torch.export.export(module, inputs), torch.jit.trace(module, inputs)
        for graph in (str(exported.graph), str(traced.inlined_graph)):
            assert "embedding_bag" not in graph
            assert ("grid_sampler" in graph) == (sampling == "bilinear")
        torch.testing.assert_close(exported.module()(*inputs), expected)
        torch.testing.assert_close(traced(*inputs), expected)
