"""Whether a part exports by itself: a check beside those of `parts.checks`, for which that room has no ONNX."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from detrofit.deployment.onnx import OPSET
from detrofit.parts.check import Check, CheckFailure
from detrofit.parts.checks import in_eval, is_module, listed, relative_distance
from detrofit.parts.trials import Place

TOLERANCE = 1e-3


class _Flat(nn.Module):
    """Takes and gives maps one by one, where a fusion takes a list and a backbone gives one."""

    def __init__(self, module: nn.Module, takes_list: bool) -> None:
        super().__init__()
        self.module = module
        self.takes_list = takes_list

    def forward(self, *maps: Tensor) -> tuple[Tensor, ...]:
        return tuple(listed(self.module(list(maps)) if self.takes_list else self.module(*maps)))


def exports_without_change(place: Place) -> None:
    """As ONNX it has standard operators only, and ONNX Runtime gives the same outputs within 1e-3."""
    module, inputs = in_eval(place)
    flat, maps = _Flat(module, isinstance(inputs, list)).eval(), listed(inputs)
    content = _exported(flat, maps)
    foreign = {node.domain for node in onnx.load_from_string(content).graph.node} - {"", "ai.onnx"}
    if foreign:
        raise CheckFailure(f"as ONNX it needs operators of {sorted(foreign)[0]}, which other runtimes do not have")
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feed = {given.name: level.numpy() for given, level in zip(session.get_inputs(), maps, strict=True)}
    outputs = [torch.from_numpy(output) for output in session.run(None, feed)]
    with torch.no_grad():
        distance = relative_distance(outputs, list(flat(*maps)))
    if not distance < TOLERANCE:
        raise CheckFailure(f"ONNX Runtime gives another result (relative distance {distance:.1e})")


@torch.no_grad()
def _exported(module: nn.Module, maps: list[Tensor]) -> bytes:
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that sizes become constants is what is wanted here
        file = Path(folder) / "part.onnx"
        torch.onnx.export(module, tuple(maps), file, dynamo=False, opset_version=OPSET)
        return file.read_bytes()


EXPORTS = Check("exports without change", is_module, exports_without_change)
