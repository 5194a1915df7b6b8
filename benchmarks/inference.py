"""Latency of inference at batch 1: ours eager and fused, fp32 and bf16, against transformers' RT-DETR in fp32 eager.

    python benchmarks/inference.py [--model rtdetr-r18] [--imgsz 640] [--repeats 10]

All sides in one process in turn, medians. bf16 is only worth reading where the processor has it natively.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import detrofit
from detrofit.model.fuse import fuse, halve
from detrofit.training.precision import native_bf16

CLASSES = 80


def transformers_model() -> nn.Module:
    """transformers' R18 with random weights."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(  # type: ignore[call-arg]
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(  # type: ignore[call-arg]
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], hidden_expansion=0.5, decoder_layers=3,
        num_labels=CLASSES,
    )  # fmt: skip
    return RTDetrForObjectDetection(config).eval()


def sides(model_name: str, side: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    image = torch.rand(1, 3, side, side)
    ours_image = image.contiguous(memory_format=torch.channels_last)
    theirs = transformers_model()
    eager = detrofit.build(model_name, num_classes=CLASSES).eval().to(memory_format=torch.channels_last)
    fused = fuse(eager)

    def in_bf16(model: nn.Module) -> Callable[[], object]:
        copied = halve(copy.deepcopy(model), torch.bfloat16)

        def run() -> object:
            with torch.autocast("cpu", torch.bfloat16):
                return copied(ours_image)

        return run

    result: dict[str, Callable[[], object]] = {
        "transformers fp32": lambda: theirs(pixel_values=image),
        "detrofit fp32 eager": lambda: eager(ours_image),
        "detrofit fp32 fused": lambda: fused(ours_image),
    }
    if native_bf16(torch.device("cpu")):
        result["detrofit bf16 fused"] = in_bf16(fused)
    return result


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rtdetr-r18")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    runs = sides(arguments.model, arguments.imgsz)
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(arguments.repeats + 2):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if repeat > 1:  # the first two warm up
                times[name].append(time.perf_counter() - started)
    theirs = statistics.median(times["transformers fp32"])
    for name, found in times.items():
        seconds = statistics.median(found)
        print(f"{name:22} {1000 * seconds:7.1f} ms  {theirs / seconds:.2f}x transformers fp32")


if __name__ == "__main__":
    main()
