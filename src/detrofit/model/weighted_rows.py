"""Weighted sums of selected rows of a table, the core of deformable attention, with a fast form for a CPU."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn import functional


def weighted_rows(value: Tensor, cells: Tensor, weights: Tensor) -> Tensor:
    """For each query and head the sum of the rows `cells` of `value` times `weights`.

    Args:
        value: `[B,N,H,C]`.
        cells: int32 `[B,Q,H,K]` in 0..N-1.
        weights: `[B,Q,H,K]`, float32 or float64.

    Returns:
        `[B,Q,H*C]` in the type of `weights`, or what autocast multiplies matrices in.
    """
    batch, queries, heads, count = cells.shape
    tokens, channels = value.shape[1], value.shape[3]
    image = torch.arange(batch, dtype=torch.int32, device=cells.device).view(-1, 1, 1, 1) * (tokens * heads)
    head = torch.arange(heads, dtype=torch.int32, device=cells.device).view(1, 1, -1, 1)
    rows = (cells * heads).add_(image + head).view(-1, count)
    table, shares = value.to(weights.dtype).reshape(-1, channels), weights.reshape(-1, count)
    sums: Tensor = _WeightedRows.apply(table, rows, shares) if eager_on_cpu(value) else _gathered(table, rows, shares)
    return sums.view(batch, queries, -1)


def eager_on_cpu(value: Tensor) -> bool:
    """Whether this runs at once on a CPU, where reading cells one by one is faster than `grid_sample`; not traced."""
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export()
    return value.device.type == "cpu" and type(value) is Tensor and not traced


def _gathered(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """`_WeightedRows` from operators that every exporter and device has."""
    return torch.bmm(weights.unsqueeze(1), functional.embedding(rows, table)).squeeze(1)


class _WeightedRows(torch.autograd.Function):
    """Sums `[M,C]` of rows `[M,K]` of a table `[R,C]` by weights `[M,K]`.

    torch's `embedding_bag` computes this quickly forwards; its own backward takes longer than all the rest.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(table, rows, weights)
        return functional.embedding_bag(rows, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        table, rows, weights = ctx.saved_tensors
        gradient = gradient.contiguous()
        table_gradient = _gradient_of_table(len(table), rows, weights, gradient) if ctx.needs_input_grad[0] else None
        weights_gradient = _gradient_of_weights(table, rows, gradient) if ctx.needs_input_grad[2] else None
        return table_gradient, None, weights_gradient


def _gradient_of_table(size: int, rows: Tensor, weights: Tensor, gradient: Tensor) -> Tensor:
    """Again weighted sums, of the gradient's rows: each row of the table sums over the places where it was read."""
    ends = np.arange(0, rows.numel() + 1, rows.shape[1], dtype=np.int32)
    reads = csr_array((weights.flatten().numpy(), rows.flatten().numpy(), ends), shape=(len(rows), size)).tocsc()
    readers, first, weights = map(torch.from_numpy, (reads.indices, reads.indptr[:-1], reads.data))
    return functional.embedding_bag(readers, gradient, first, per_sample_weights=weights, mode="sum")


def _gradient_of_weights(table: Tensor, rows: Tensor, gradient: Tensor) -> Tensor:
    """The product of each sum's gradient with each of its rows: a matrix product at the places of a sparse matrix."""
    places = torch.arange(0, rows.numel() + 1, rows.shape[1], dtype=torch.int32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces once that its sparse matrices are in beta
        pattern = torch.sparse_csr_tensor(
            places, rows.view(-1), torch.zeros(rows.numel(), dtype=gradient.dtype), (len(rows), len(table))
        )
    return torch.sparse.sampled_addmm(pattern, gradient, table.t(), beta=0.0).values().view_as(rows)
