"""Reading before joining: the same numbers from fewer multiplications, and hands off what is not linear."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from detrofit.deployment.joined_maps import read_before_joining

MAPS = {"fine": (2, 6, 8, 12), "coarse": (2, 6, 4, 6)}
Join = Callable[[nn.Module, Tensor, Tensor], Sequence[Tensor]]


class Neck(nn.Module):
    """Two maps, joined in some way, and read by two 1x1 convolutions with something after each."""

    def __init__(self, join: Join, joined: int, *, kernel_size: int = 1) -> None:
        super().__init__()
        self.join = join
        self.projection = nn.Conv2d(6, 7, 1)
        self.read = nn.Conv2d(joined, 5, kernel_size, padding=kernel_size // 2)
        self.read_too = nn.Conv2d(joined, 4, 1, bias=False)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        joined = torch.cat(list(self.join(self, fine, coarse)), dim=1)
        return torch.cat([functional.silu(self.read(joined)), self.read_too(joined).sigmoid()], dim=1)


def raised(coarse: Tensor, mode: str = "nearest") -> Tensor:
    return functional.interpolate(coarse, scale_factor=2, mode=mode)


def exported(model: nn.Module, *, any_batch: bool = False) -> Any:
    torch.manual_seed(0)
    file, maps = io.BytesIO(), tuple(torch.zeros(size) for size in MAPS.values())
    axes = {name: {0: "batch"} for name in MAPS} if any_batch else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this exporter, which we use, is the older one
        torch.onnx.export(model.eval(), maps, file, dynamo=False, opset_version=17, input_names=list(MAPS),
                          dynamic_axes=axes)  # fmt: skip
    return onnx.load_from_string(file.getvalue())


def answers(model: Any) -> np.ndarray:
    onnx.checker.check_model(model)
    generator = np.random.default_rng(0)
    maps = {name: generator.standard_normal(size, np.float32) for name, size in MAPS.items()}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {each.name: maps[each.name] for each in session.get_inputs()})[0])


def read_by(model: Any) -> list[str]:
    """What each convolution reads: a picture's map by its name, or the kind of operation that makes it."""
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    return sorted(makers.get(node.input[0], node.input[0]) for node in model.graph.node if node.op_type == "Conv")


CHANGED: dict[str, tuple[Join, int, list[str]]] = {
    "raised": (lambda neck, fine, coarse: [raised(coarse), fine], 12, ["coarse", "coarse", "fine", "fine"]),
    "projected": (lambda neck, fine, coarse: [neck.projection(fine), fine], 13, ["fine"] * 4),
    "both": (
        lambda neck, fine, coarse: [neck.projection(fine), raised(coarse)], 13, ["coarse", "coarse", "fine", "fine"]
    ),
    "beside others": (
        lambda neck, fine, coarse: [fine.relu(), raised(coarse.relu()), fine], 18, ["Relu"] * 4 + ["fine"] * 2
    ),
}  # fmt: skip


@pytest.mark.parametrize("any_batch", [False, True])
@pytest.mark.parametrize("name", CHANGED)
def test_sources_are_read_instead_of_the_join_with_the_same_answer(name: str, any_batch: bool) -> None:
    join, joined, sources = CHANGED[name]
    model = exported(Neck(join, joined), any_batch=any_batch)
    expected = answers(model)
    read_before_joining(model)
    assert read_by(model) == sources
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)


KEPT: dict[str, Neck] = {
    "a join of maps as they are": Neck(lambda neck, fine, coarse: [fine, fine.relu()], 12),
    "a map raised by what only comes to twice its size": Neck(
        lambda neck, fine, coarse: [functional.interpolate(coarse, scale_factor=(2.1, 2.1)), fine], 12
    ),
    "a map raised smoothly": Neck(lambda neck, fine, coarse: [raised(coarse, "bilinear"), fine], 12),
    "a convolution of 3x3 among the readers": Neck(
        lambda neck, fine, coarse: [raised(coarse), fine], 12, kernel_size=3
    ),
    "an activation after the projection": Neck(lambda neck, fine, coarse: [neck.projection(fine).relu(), fine], 13),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_what_cannot_be_read_earlier_stays_as_it_is(name: str) -> None:
    model = exported(KEPT[name])
    before = [node.SerializeToString() for node in model.graph.node]
    read_before_joining(model)
    assert [node.SerializeToString() for node in model.graph.node] == before


def test_a_sum_that_another_join_reads_and_nodes_without_names_are_no_matter() -> None:
    twice = Neck(lambda neck, fine, coarse: [neck.projection(torch.cat([raised(coarse), fine], dim=1)), fine], 13)
    twice.projection = nn.Conv2d(12, 7, 1)
    model = exported(twice)
    expected = answers(model)
    for node in model.graph.node:
        node.name = ""
    read_before_joining(model)
    assert read_by(model) == ["Concat", "Concat", "coarse", "fine"], "the sum is joined and read as any map"
    np.testing.assert_allclose(answers(model), expected, atol=1e-5)


def test_a_projection_that_saves_work_or_that_others_read_stays() -> None:
    narrow = Neck(lambda neck, fine, coarse: [neck.projection(fine), fine], 8)
    narrow.projection = nn.Conv2d(6, 2, 1)  # 6 * 2 + 2 * 9 multiplications a cell are fewer than 6 * 9
    shared = Neck(lambda neck, fine, coarse: (lambda map_: [map_, map_.relu()])(neck.projection(fine)), 14)
    for model in (exported(narrow), exported(shared)):
        before = read_by(model)
        read_before_joining(model)
        assert read_by(model) == before
