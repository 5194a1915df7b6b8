"""Images a second of a training step, ours against transformers' RT-DETR, both in one process in turn.

    python benchmarks/train_step.py [--model rtdetr-r18] [--imgsz 320] [--batch 8] [--repeats 5] [--profile]

The same configuration on both sides (R18, 80 classes, 300 queries, 100 denoising queries), the same random pictures
and boxes, AdamW. `--profile` prints instead where our step's time goes. Peak memory is measured in fresh processes
(`--side`), since the allocator never gives back what another side took.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from memory import peak_mib

import detrofit
from detrofit.model.detector import RTDETR
from detrofit.training.devices import Devices

CLASSES = 80
BOXES = 8  # in each picture, about COCO's mean
SIDES = ("detrofit", "transformers fp32", "transformers bf16")


def make_batch(batch: int, side: int) -> tuple[torch.Tensor, list[dict[str, torch.Tensor]]]:
    """Random pictures uint8 and targets, the same every time."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, side, side), generator=generator, dtype=torch.uint8)
    targets = []
    for _ in range(batch):
        centres = torch.rand(BOXES, 2, generator=generator) * 0.6 + 0.2
        sizes = torch.rand(BOXES, 2, generator=generator) * 0.3 + 0.05
        labels = torch.randint(0, CLASSES, (BOXES,), generator=generator)
        targets.append({"labels": labels, "boxes": torch.cat([centres, sizes], dim=1)})
    return images, targets


def our_step(built: RTDETR, images: torch.Tensor, targets: list[dict[str, torch.Tensor]]) -> Callable[[], None]:
    """One update of a model by its criterion, in the precision that training chooses here."""
    devices = Devices("cpu")
    model = devices.place(built).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        pictures = devices.images(images)
        with devices.autocast():
            output = model(pictures, targets)
        losses = model.criterion(output, targets, tuple(pictures.shape[-2:]))
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def transformers_step(
    images: torch.Tensor, targets: list[dict[str, torch.Tensor]], autocast: Callable[[], AbstractContextManager]
) -> Callable[[], None]:
    """One update by transformers' model with R18's configuration and its own loss."""
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(  # type: ignore[call-arg]
        embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = RTDetrConfig(  # type: ignore[call-arg]
        backbone_config=backbone, encoder_in_channels=[128, 256, 512], hidden_expansion=0.5, decoder_layers=3,
        num_labels=CLASSES, freeze_backbone_batch_norms=False,
    )  # fmt: skip
    model = RTDetrForObjectDetection(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    labels = [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in targets]

    def step() -> None:
        with autocast():
            loss = model(pixel_values=images.float() / 255, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def make_step(name: str, model: str, batch: int, side: int) -> Callable[[], None]:
    """The update of one side by name."""
    images, targets = make_batch(batch, side)
    if name == "detrofit":
        return our_step(detrofit.build(model, num_classes=CLASSES), images, targets)
    bf16 = name.endswith("bf16")
    return transformers_step(images, targets, lambda: torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext())


def peak_memory(name: str, arguments: argparse.Namespace) -> float:
    """MiB that a fresh process needs at most for a side's steps."""
    command = [sys.executable, __file__, "--side", name, "--model", arguments.model]
    command += ["--imgsz", str(arguments.imgsz), "--batch", str(arguments.batch)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(printed.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rtdetr-r18")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--side", choices=SIDES)
    arguments = parser.parse_args()
    if arguments.side or arguments.profile:
        step = make_step(arguments.side or "detrofit", arguments.model, arguments.batch, arguments.imgsz)
        step(), step()
        if arguments.profile:
            with torch.profiler.profile() as profile:
                step()
            print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=40, max_name_column_width=50))
        print(json.dumps(peak_mib()))
        return
    steps = {name: make_step(name, arguments.model, arguments.batch, arguments.imgsz) for name in SIDES}
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for repeat in range(arguments.repeats + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if repeat:  # the first of each warms up
                times[name].append(time.perf_counter() - started)
    ours = statistics.median(times["detrofit"])
    for name in SIDES:
        seconds = statistics.median(times[name])
        memory = peak_memory(name, arguments)
        print(
            f"{name:18} {arguments.batch / seconds:6.2f} images/s  {seconds / arguments.batch:.3f} s/image"
            f"  ours is {seconds / ours:.2f}x  peak {memory:,.0f} MiB"
        )


if __name__ == "__main__":
    main()
