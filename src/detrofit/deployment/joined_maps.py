"""The same numbers for less work: 1x1 convolutions of an ONNX graph that read maps which were raised or projected.

A neck raises a coarse map, joins it to a projected finer one and reads both with 1x1 convolutions. All of that is
linear, so they may as well read the coarse map before it is raised and the finer one before it is projected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

JOIN = "/join"  # how the names of the sums that join sources end
# What an operator has that repeats rows and columns, and the only numbers that attributes of a 1x1 convolution have.
_RAISING: dict[str, Any] = {
    "mode": b"nearest",
    "coordinate_transformation_mode": b"asymmetric",
    "nearest_mode": b"floor",
}
_POINTWISE = {"group": {1}, "strides": {1}, "pads": {0}}


class Linear(NamedTuple):
    """A 1x1 convolution: weights `[out,in]`, bias `[out]`."""

    weight: np.ndarray
    bias: np.ndarray


class Source(NamedTuple):
    """What a joined map comes from: `value` with `channels` of the joined map, projected, then raised by whole
    numbers."""

    value: str
    channels: int
    projection: Linear | None = None
    scale: tuple[int, int] = (1, 1)


def read_before_joining(model: Any) -> None:
    """Turn, in place, each 1x1 convolution of a join of maps into a sum of 1x1 convolutions of their sources.

    Only joins with a map that was raised to the nearest, or projected so that skipping it saves work, are touched.
    Outputs stay equal up to rounding.
    """
    graph = _Graph(model)
    for join in [node for node in model.graph.node if node.op_type == "Concat" and _attribute(node, "axis") == 1]:
        readers = graph.readers(join.output[0])
        if readers and all(map(graph.is_pointwise, readers)) and all(map(graph.channels, join.input)):
            width = sum(len(graph.linear(reader).weight) for reader in readers)
            sources = [graph.source(value, width) for value in join.input]
            if any(source.projection or source.scale != (1, 1) for source in sources):
                for reader in readers:
                    graph.replace(reader, _sum_of_convolutions(graph, reader, sources))
                graph.drop_unread()


class _Graph:
    """An ONNX graph with what is known of its values."""

    def __init__(self, model: Any) -> None:
        self.graph = model.graph
        self.constants = {each.name: each for each in model.graph.initializer}
        self.constants |= {
            node.output[0]: value
            for node in model.graph.node
            if node.op_type == "Constant" and (value := _attribute(node, "value")) is not None
        }
        self.makers = {output: node for node in model.graph.node for output in node.output}
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        self.shapes = {
            each.name: [size.dim_value for size in each.type.tensor_type.shape.dim]
            for each in (*inferred.value_info, *inferred.input, *inferred.output)
        }

    def readers(self, value: str) -> list[Any]:
        return [node for node in self.graph.node if value in node.input]

    def channels(self, value: str) -> int:
        """How many a map has; 0 where that is not known."""
        shape = self.shapes.get(value, [])
        return shape[1] if len(shape) > 1 else 0

    def is_pointwise(self, node: Any) -> bool:
        """Whether it is a 1x1 convolution of single cells, all channels together, with constant weights."""
        return (
            node.op_type == "Conv"
            and all(name in self.constants for name in node.input[1:])
            and list(self.constants[node.input[1]].dims[2:]) == [1, 1]
            and all(set(np.ravel(_attribute(node, name) or [*only])) == only for name, only in _POINTWISE.items())
        )

    def linear(self, node: Any) -> Linear:
        weight, *bias = (numpy_helper.to_array(self.constants[name]) for name in node.input[1:])
        return Linear(weight[:, :, 0, 0], bias[0] if bias else np.zeros(len(weight), weight.dtype))

    def source(self, value: str, width: int) -> Source:
        """Where convolutions that have `width` channels together may read instead of the joined map `value`."""
        maker, channels = self.makers.get(value), self.channels(value)
        if maker is None:
            return Source(value, channels)
        if (scale := self._scale(maker)) is not None:
            return Source(maker.input[0], channels, scale=scale)
        if self.is_pointwise(maker) and len(self.readers(value)) == 1:
            projection = self.linear(maker)
            before = projection.weight.shape[1]
            if before * width < before * channels + channels * width:
                return Source(maker.input[0], channels, projection)
        return Source(value, channels)

    def _scale(self, node: Any) -> tuple[int, int] | None:
        """How often it repeats rows and columns; None if that is not all that it does."""
        if node.op_type != "Resize" or any(_attribute(node, name) != value for name, value in _RAISING.items()):
            return None
        before, after = (self.shapes.get(value, [])[2:] for value in (node.input[0], node.output[0]))
        if not all((*before, *after)) or len(before) != 2 or any(b % a for a, b in zip(before, after, strict=True)):
            return None
        scale = after[0] // before[0], after[1] // before[1]
        if any(node.input[2:3]):  # given as scales, which may be anything that comes to these sizes
            given = self.constants.get(node.input[2])
            if given is None or tuple(numpy_helper.to_array(given)[-2:]) != scale:
                return None
        return scale

    def add_constant(self, name: str, values: np.ndarray) -> str:
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def replace(self, node: Any, others: list[Any]) -> None:
        place = list(self.graph.node).index(node)
        self.graph.node.remove(node)
        del self.makers[node.output[0]]
        for offset, other in enumerate(others):
            self.graph.node.insert(place + offset, other)

    def drop_unread(self) -> None:
        wanted = {each.name for each in self.graph.output}
        for node in reversed(list(self.graph.node)):
            if wanted.isdisjoint(node.output):
                self.graph.node.remove(node)
            else:
                wanted.update(_read_by(node))
        for each in [each for each in self.graph.initializer if each.name not in wanted]:
            self.graph.initializer.remove(each)


def _sum_of_convolutions(graph: _Graph, reader: Any, sources: list[Source]) -> list[Any]:
    """Nodes that give what `reader` gives; named after it, so that they count as what it was a part of."""
    weight, bias = graph.linear(reader)
    ends = np.cumsum([source.channels for source in sources])
    nodes: list[Any] = []
    for number, (source, part) in enumerate(zip(sources, np.split(weight, ends[:-1], axis=1), strict=True)):
        name, before = f"{reader.name or reader.output[0]}/{number}", nodes[-1].output[0] if nodes else None
        own = Linear(part, bias if number == 0 else np.zeros_like(bias))
        nodes += _convolution(graph, name, source, own)
        if before is not None:
            nodes.append(helper.make_node("Add", [nodes[-1].output[0], before], [f"{name}/joined"], name + JOIN))
    nodes[-1].output[0] = reader.output[0]
    return nodes


def _convolution(graph: _Graph, name: str, source: Source, own: Linear) -> list[Any]:
    """A 1x1 convolution of a source, raised where that is."""
    if source.projection is not None:
        weight, bias = source.projection
        own = Linear(own.weight @ weight, own.bias + own.weight @ bias)
    constants = [
        graph.add_constant(f"{name}.weight", own.weight[:, :, None, None]),
        graph.add_constant(f"{name}.bias", own.bias),
    ]
    nodes = [helper.make_node("Conv", [source.value, *constants], [f"{name}/read"], name, kernel_shape=[1, 1])]
    if source.scale != (1, 1):
        scales = graph.add_constant(f"{name}.scales", np.array([1, 1, *source.scale], np.float32))
        inputs, outputs = [f"{name}/read", "", scales], [f"{name}/raised"]
        nodes.append(helper.make_node("Resize", inputs, outputs, f"{name}/raise", **_RAISING))
    return nodes


def _read_by(node: Any) -> Iterator[str]:
    """What a node reads, those of its branches included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read_by(inner)


def _attribute(node: Any, name: str) -> Any:
    return next((helper.get_attribute_value(each) for each in node.attribute if each.name == name), None)
