"""Which operations of an OpenVINO model stay in float32 where the rest runs in half precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

# How the exporter names what happens in the encoder's attention, and where queries read the maps.
_ENCODER_ATTENTION, _CROSS_ATTENTION = "/model/encoder/attention/", "/cross_attention/"


def keep_in_float32(target: Path, model: Any) -> None:
    """Ask devices that compute in half precision to compute some of `model`, saved as `target` (.xml), in float32.

    The encoder's attention: in bf16 it cost an INT8 file of `rtdetr-r18` at 320 0.4 points of AP and saved no time, as
    one layer on the smallest map. And the positions at which queries read the maps: in bf16 they are off by up to a
    quarter of a cell of a map 80 wide.
    """
    names = {each.get_friendly_name() for each in _positions(model)}
    tree = ElementTree.parse(target)
    for layer in tree.iterfind("layers/layer"):
        name = layer.get("name", "")
        if name in names or name.startswith(_ENCODER_ATTENTION):
            facts = layer.find("rt_info")
            if facts is None:
                facts = ElementTree.Element("rt_info")
                layer.insert(0 if layer.find("data") is None else 1, facts)
            # OpenVINO has no call for it from Python; later versions know the attribute by this first name, too.
            ElementTree.SubElement(facts, "attribute", name="precise", version="0")
    tree.write(target, encoding="utf-8", xml_declaration=True)


def _positions(model: Any) -> Iterator[Any]:
    """What computes positions, and the shares of the cells around them, from boxes and a layer's offsets."""
    waiting = [
        source
        for node in model.get_ordered_ops()
        if _CROSS_ATTENTION in node.get_friendly_name()
        for source in _position_inputs(node)
    ]
    seen = set[str]()
    while waiting:
        node = waiting.pop()
        name = node.get_friendly_name()
        if name not in seen and not _is_read(node):
            seen.add(name)
            yield node
            waiting += _sources(node)


def _position_inputs(node: Any) -> list[Any]:
    """Where `node` reads positions or shares from, if it reads a map there."""
    sources = _sources(node)
    if node.get_type_name() in ("GridSample", "Gather"):
        return sources[1:2]
    if node.get_type_name() == "MatMul" and any(each.get_type_name() == "Gather" for each in sources):
        return [each for each in sources if each.get_type_name() != "Gather"]
    return []


def _is_read(node: Any) -> bool:
    """Whether positions are computed from what `node` makes, be that in half precision: a linear layer's or a
    softmax's answer, a choice by scores, a constant."""
    makers = [node, *_sources(node)] if node.get_type_name() == "Add" else [node]  # Add: a linear layer's bias
    kinds = [each.get_type_name() for each in makers]
    return kinds[0] in ("Constant", "Softmax", "TopK") or "MatMul" in kinds


def _sources(node: Any) -> list[Any]:
    return [each.get_source_output().get_node() for each in node.inputs()]
