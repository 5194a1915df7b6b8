"""From a picture file to boxes at batch 1, everything that can ship a model side by side in one process, in turns.

    python benchmarks/deploy.py [--model rtdetr-r18] [--imgsz 640] [--rounds 30] [--minutes 0] [--threads 2]
        [--out FILE]

transformers eager; ours eager, and fused in bf16; ONNX Runtime float32 and INT8; OpenVINO float32, bf16 and INT8; and,
where it is installed, easydetect with its small model on OpenVINO, for scale. For each OpenVINO file also the bare
compiled network on an array plus decoding the picture: what our path adds to that is its own cost. Weights are random
and INT8 is calibrated on drawn scenes: times are all that is asked here.

Where the host places the cores of a virtual machine changes what they can do, for seconds to minutes. `--minutes`
spreads the rounds over so long, in groups of ten, so that the medians are not those of one such state; the record has
each group's medians too.

A turn is two pictures. The second finds the model in the caches, as every picture of a stream does; the first comes
after eleven other models have had them. Prints a table of both in Markdown and writes the numbers.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
import timeit
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference import transformers_model
from PIL import Image

from detrofit.data.demo_scenes import draw_scene
from detrofit.deployment.calibration import Calibration
from detrofit.deployment.export import write_exported
from detrofit.deployment.machine import describe_machine, is_busy
from detrofit.deployment.onnx import ExportOptions
from detrofit.deployment.subjects import find_subjects
from detrofit.deployment.turns import Spread, spread, take_turns
from detrofit.pictures import decode_picture
from detrofit.runtime.detector import Detector
from detrofit.runtime.openvino_backend import half_precision, openvino_core
from detrofit.weights.torch_backend import TorchBackend

Run = Callable[[Path], object]
RECORD = Path(__file__).with_name("deploy.json")
THEIRS, BARE, CALIBRATION_PICTURES = "transformers eager", " (bare network and decoding)", 8
GROUP = 10  # rounds


def transformers_eager(side: int) -> Run:
    """transformers' processor, model and post-processing."""
    from transformers import RTDetrImageProcessor

    processor = RTDetrImageProcessor(size={"height": side, "width": side})
    model = transformers_model()

    @torch.inference_mode()
    def run(file: Path) -> object:
        with Image.open(file) as opened:
            picture = opened.convert("RGB")
        outputs = model(**processor(images=picture, return_tensors="pt"))
        return processor.post_process_object_detection(outputs, 0.5, [(picture.height, picture.width)])

    return run


def ours_eager(file: Path, threads: int) -> Run:
    """The model as it is trained, unfused."""
    detector = Detector(file, device="cpu", threads=threads)
    detector.backend = TorchBackend(file, "cpu", fused=False)
    return detector


def bare_openvino(file: Path, side: int, precision: str, threads: int) -> Run:
    """Decoding, and the compiled network on an array that is there already."""
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
    request = openvino_core().compile_model(file, "CPU", settings).create_infer_request()
    images = np.random.default_rng(0).random((1, 3, side, side), np.float32)

    def run(picture: Path) -> object:
        return decode_picture(picture), request.infer([images], share_inputs=True)

    return run


def easydetect_openvino(folder: Path, side: int) -> Run:
    """Its small model with random weights on its own runtime path; it chooses threads and precision itself."""
    import easydetect  # type: ignore[import-not-found,unused-ignore]
    from easydetect.exporter import export_openvino  # type: ignore[import-not-found,unused-ignore]
    from easydetect.nn import EDNet  # type: ignore[import-not-found,unused-ignore]

    network = EDNet("s", 80, pretrained_backbone=False).eval()
    names = {number: f"class {number}" for number in range(80)}
    file = export_openvino(network, names, imgsz=side, out_dir=folder, fname="easydetect-s", verbose=False)
    detector = easydetect.Detector(file, verbose=False)
    return lambda picture: detector.predict(str(picture), verbose=False)


def contestants(name: str, side: int, threads: int, folder: Path) -> dict[str, Run]:
    """What is timed, by name; transformers first."""
    [subject] = find_subjects([name], [], (side, side), folder)
    scenes = [draw_scene(np.random.default_rng(number), 480, 640).picture for number in range(CALIBRATION_PICTURES)]
    calibration = Calibration("drawn", scenes, (side, side), 1)
    write = partial(write_exported, file=subject.file)
    float_options, int8_options = ExportOptions((side, side)), ExportOptions((side, side), precision="int8")
    files = {
        "ONNX Runtime float32": write(folder / "f.onnx", format_="onnx", options=float_options).file,
        "ONNX Runtime INT8": write(
            folder / "q.onnx", format_="onnx", options=int8_options, calibration=calibration
        ).file,
    }
    float_file = write(folder / "f.xml", format_="openvino", options=float_options).file
    int8_file = write(folder / "q.xml", format_="openvino", options=int8_options, calibration=calibration).file
    half = half_precision() or "f32"
    runs: dict[str, Run] = {
        THEIRS: transformers_eager(side),
        "detrofit eager": ours_eager(subject.file, threads),
        "detrofit fused bf16": Detector(subject.file, device="cpu", half=True, threads=threads),
        **{key: Detector(file, device="cpu", threads=threads) for key, file in files.items()},
    }
    for key, file, precision in (
        ("OpenVINO float32", float_file, "f32"),
        (f"OpenVINO {half}", float_file, half),
        ("OpenVINO INT8", int8_file, half),
    ):
        runs[key] = Detector(file, device="cpu", half=precision != "f32", threads=threads)
        runs[key + BARE] = bare_openvino(file, side, precision, threads)
    if all(importlib.util.find_spec(module) for module in ("easydetect", "cv2")):
        runs["easydetect s, OpenVINO"] = easydetect_openvino(folder, side)
    return runs


def timed(run: Run, picture: Path) -> tuple[float, float]:
    """Milliseconds of the first picture after other models, and of the next."""
    first, next_ = (timeit.timeit(partial(run, picture), number=1) for _ in range(2))
    return 1e3 * first, 1e3 * next_


def take_groups(runs: Sequence[Callable[[], tuple[float, float]]], rounds: int, minutes: float) -> list[np.ndarray]:
    """Samples `[rounds,runs,2]` of each group of rounds; the groups begin at even distances within `minutes`."""
    sizes = [len(group) for group in np.array_split(np.arange(rounds), max(1, rounds // GROUP))]
    started, groups = time.monotonic(), []
    for number, size in enumerate(sizes):
        time.sleep(max(0.0, started + 60 * minutes * number / len(sizes) - time.monotonic()))
        groups.append(take_turns(runs, size))
    return groups


def results_of(names: list[str], samples: np.ndarray) -> dict[str, dict[str, Any]]:
    """Of each name its times, the times of transformers over them, and them over those of its bare network if any.

    `samples` are milliseconds `[rounds,names]`.
    """
    columns = dict(zip(names, samples.T, strict=True))
    return {
        name: {
            "milliseconds": asdict(spread(own)),
            "times_faster": asdict(spread(columns[THEIRS] / own)),
            "of_bare": asdict(spread(own / columns[name + BARE])) if name + BARE in columns else None,
        }
        for name, own in columns.items()
    }


def markdown(stream: dict[str, dict[str, Any]], after_others: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| picture file to boxes | ms (95 %) | p90 | times transformers' speed | of bare network | "
        "after other models, ms | times transformers' speed |",
        "| - " * 7 + "|",
    ]
    for name, each in stream.items():
        (own, faster), (first, first_faster) = (
            (Spread(**row[name]["milliseconds"]), Spread(**row[name]["times_faster"])) for row in (stream, after_others)
        )
        bare = f"{each['of_bare']['median']:.3f}" if each["of_bare"] else ""
        lines.append(
            f"| {name} | {_interval(own, 1)} | {own.p90:.1f} | {_interval(faster, 2)} | {bare} | {first.median:.1f} | "
            f"{_interval(first_faster, 2)} |"
        )
    return "\n".join(lines)


def _interval(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f} to {value.high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="rtdetr-r18")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RECORD)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    machine = describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        picture = folder / "picture.jpg"
        Image.fromarray(draw_scene(np.random.default_rng(0), 480, 640).picture).save(picture, quality=90)
        runs = contestants(arguments.model, arguments.imgsz, arguments.threads, folder)
        turns = [partial(timed, run, picture) for run in runs.values()]
        groups = take_groups(turns, arguments.rounds, arguments.minutes)
    samples = np.concatenate(groups)
    after_others, stream = (results_of(list(runs), samples[..., place]) for place in range(2))
    medians = np.array([np.median(group[..., 1], axis=0) for group in groups])
    settings = {key: value for key, value in vars(arguments).items() if key != "out"}
    by_group = dict(zip(runs, medians.T.tolist(), strict=True))
    record = {
        **settings, "machine": machine, "results": stream, "after_others": after_others, "group_medians": by_group,
    }  # fmt: skip
    arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print(markdown(stream, after_others))
    if is_busy(machine):
        print(f"\nthe machine was busy (load {machine['load']}): believe the ratios, not the milliseconds")


if __name__ == "__main__":
    main()
