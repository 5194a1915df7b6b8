"""Which operations of an exported graph are the decoder's: those that stay in float when the rest is quantised."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from detrofit.errors import DetrofitError

DECODER = "/model/decoder/"  # how the exporter names what happens inside `ExportedGraph.model.decoder`
# What is computed for each cell of the maps, and moves no box: projections to the decoder's width, what cells are
# chosen by, and the values that queries read.
MAP_PROJECTION = re.compile(
    DECODER + r"(stride\d+|query_selection/projection|layer\d+/cross_attention/value_projection)/"
)


class Operation(NamedTuple):
    """A node of a graph: its name, and the names of the values that go in and come out."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def decoder_operations(operations: Iterable[Operation], pictures: str) -> list[str]:
    """The names of all operations from the decoder's first ones on, to the end of the graph.

    Names alone would miss what a converter has made anew and named by itself, so whatever reads from the decoder counts
    as well; what does not depend on the pictures (constants, which others may share) does not.

    Args:
        operations: of the graph, each after those it reads from.
        pictures: the name of the graph's input.

    Raises DetrofitError where no operation has the decoder's name.
    """
    depends, after, found = {pictures}, set[str](), list[str]()
    for operation in operations:
        if depends.isdisjoint(operation.inputs):
            continue
        depends.update(operation.outputs)
        if operation.name.startswith(DECODER) or not after.isdisjoint(operation.inputs):
            after.update(operation.outputs)
            found.append(operation.name)
    if not found:
        raise DetrofitError(f"no operation of the graph is named {DECODER}..., so the decoder cannot be kept in float")
    return found


def onnx_operations(graph: Any) -> Iterator[Operation]:
    """Of an ONNX graph; its nodes are in order by ONNX's rules."""
    for node in graph.node:
        yield Operation(node.name, tuple(node.input), tuple(node.output))


def openvino_operations(model: Any) -> Iterator[Operation]:
    """Of an OpenVINO model, without its outputs, which compute nothing; a value is named by the node that makes it."""
    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Parameter", "Result"):
            inputs = tuple(each.get_source_output().get_node().get_friendly_name() for each in node.inputs())
            yield Operation(node.get_friendly_name(), inputs, (node.get_friendly_name(),))
