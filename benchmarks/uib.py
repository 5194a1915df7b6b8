"""Parameters, FLOPs and CPU latency of every UIB form and placement in ResNet-18-vd and -50-vd against stock.

    python benchmarks/uib.py [--imgsz 640] [--repeats 5] [--out docs/uib_table.md]

With `--repeats 0` latency is left out, and the counts take seconds.

Whole `rtdetr-r18` and `rtdetr-r50` with stages 3 and 4 changed. Parameters and FLOPs are counted; latency is that of
the fused backbone on this machine (the rest does not change), each variant in turn with stock in one process, the
median of the ratios.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from detrofit.config.models import build
from detrofit.model.costs import count_flops, count_parameters
from detrofit.model.fuse import fuse

FORMS = ("ib", "convnext-like", "extradw", "ffn")
EXPANSIONS = (1.0, 2.0, 4.0)
STAGES = "backbone.stage[3,4]"


class Variant(NamedTuple):
    """A form in a placement, and the retrofit that makes it."""

    placement: str
    form: str
    expand: float
    retrofit: dict[str, Any]


def variants(model: str) -> Iterator[Variant]:
    """Every form, placement and expansion; a bottleneck has one 3x3 only."""
    placements: dict[str, tuple[str, dict[str, str]]] = {
        "block": ("block", {}),
        "block, vd shortcut": ("block", {"shortcut": "vd"}),
        "conv": ("conv", {}),
        "conv, both": ("conv", {"which": "both"}),
        "insert": ("insert", {}),
    }
    if model != "rtdetr-r18":
        del placements["conv, both"]
    for placement, (slot, at) in placements.items():
        for form in FORMS:
            for expand in EXPANSIONS:
                choice = {"part": form, "expand": expand, **({"at": at} if at else {})}
                yield Variant(placement, form, expand, {f"{STAGES}.{slot}": choice})


@torch.inference_mode()
def latency_ratio(backbone: nn.Module, stock: nn.Module, image: torch.Tensor, repeats: int) -> float:
    """Median of the latency of `backbone` over that of `stock`, in turn."""
    ratios = []
    for repeat in range(repeats + 1):
        pair = []
        for module in (stock, backbone):
            started = time.perf_counter()
            module(image)
            pair.append(time.perf_counter() - started)
        if repeat:  # the first warms up
            ratios.append(pair[1] / pair[0])
    return statistics.median(ratios)


def table(model: str, side: int, repeats: int) -> list[str]:
    """The rows of one model as a Markdown table."""
    image = torch.rand(1, 3, side, side).contiguous(memory_format=torch.channels_last)
    stock = build(model, num_classes=80).eval()
    stock_backbone = fuse(stock.backbone).to(memory_format=torch.channels_last)
    parameters, flops = count_parameters(stock), count_flops(stock, (side, side))
    rows = [
        "| placement | form | expand | parameters | against stock | GFLOPs | against stock | backbone latency |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        f"| stock | | | {parameters / 1e6:.2f} M | | {flops / 1e9:.1f} | | 1 |",
    ]
    for variant in variants(model):
        changed = build(model, variant.retrofit, num_classes=80).eval()
        count, operations = count_parameters(changed), count_flops(changed, (side, side))
        latency = "not measured"
        if repeats:
            backbone = fuse(changed.backbone).to(memory_format=torch.channels_last)
            latency = f"{latency_ratio(backbone, stock_backbone, image, repeats):.2f}"
        rows.append(
            f"| {variant.placement} | `{variant.form}` | {variant.expand:g} | {count / 1e6:.2f} M "
            f"| {count / parameters - 1:+.0%} | {operations / 1e9:.1f} | {operations / flops - 1:+.0%} | {latency} |"
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("docs/uib_table.md"))
    arguments = parser.parse_args()
    made = f"Made by `benchmarks/uib.py` on {datetime.date.today()}, torch {torch.__version__.split('+')[0]}"
    if arguments.repeats:
        made += f", {platform.machine()}, {torch.get_num_threads()} threads, float32, batch 1, medians of "
        made += f"{arguments.repeats}; latency is that of the fused backbone over the stock one's"
    lines = [f"{made}, {arguments.imgsz} pixels."]
    for model in ("rtdetr-r18", "rtdetr-r50"):
        with torch.device("cpu" if arguments.repeats else "meta"):
            rows = table(model, arguments.imgsz, arguments.repeats)
        lines += ["", f"### {model}, stages 3 and 4", "", *rows]
    arguments.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
