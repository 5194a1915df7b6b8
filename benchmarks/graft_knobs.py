"""Grafts and free knobs together: fewer pixels, queries and layers, then the short fine-tuning that grafts have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from graft_bench import Bench, Row

from detrofit.deployment.export import write_exported
from detrofit.deployment.latency import measure
from detrofit.deployment.onnx import ExportOptions
from detrofit.grafting.finish import finish
from detrofit.grafting.score import Scorer
from detrofit.grafting.workshop import Workshop, open_workshop
from detrofit.model.costs import count_parameters
from detrofit.model.fuse import fuse
from detrofit.weights.model_file import load_model, read_info, save_model
from detrofit.weights.truncate import truncated

QueriesAndLayers = Sequence[tuple[int, int]]
KNOBS: QueriesAndLayers = ((100, 3), (50, 3), (25, 3), (50, 2), (25, 2))  # the first is rtdetr-n as it is
WITH_FEWER_PIXELS: QueriesAndLayers = ((50, 3), (25, 3))
FEWER_PIXELS = 32  # of a side, the least that the network's strides allow
SMALLER = "uniform, fewer pixels"  # a folder


def with_knobs(bench: Bench, workshop: Workshop, sources: Mapping[str, Path]) -> Row:
    """Of each source (the teacher, and grafts before any fine-tuning) `KNOBS`, and `WITH_FEWER_PIXELS` on these: AP
    before and after fine-tuning, parameters of the deploy form, and latency over that of the teacher as it is."""
    files, rows = {"teacher": bench.teacher}, dict[str, Row]()
    for shop, knobs in ((workshop, KNOBS), (_with_fewer_pixels(bench, workshop), WITH_FEWER_PIXELS)):
        turned = _turned(bench, shop, sources, knobs)
        scorer = Scorer(shop)
        before = {name: scorer.score(shop.devices.place(load_model(file))).ap for name, file in turned.items()}
        finished = finish(shop, scorer, turned, bench.finish_epochs)
        rows |= {name: {"before": before[name], "finished": asdict(finished[name]["score"])} for name in turned}
        files |= turned
    ratios = _ratios(bench, workshop, files)
    for name, row in rows.items():
        row["cost"] = {**ratios[name], "parameters": count_parameters(fuse(load_model(files[name])))}
    return {"knobs": rows}


def _with_fewer_pixels(bench: Bench, workshop: Workshop) -> Workshop:
    """The teacher as it is, on pictures of fewer pixels."""
    height, width = (side - FEWER_PIXELS for side in workshop.size)
    file = bench.folder / "knobs" / f"teacher, {height} x {width} pixels.safetensors"
    save_model(file, load_model(bench.teacher), replace(workshop.info, input_size=(height, width)))
    return open_workshop(file, bench.path, bench.folder / SMALLER, bench.settings())


def _turned(bench: Bench, workshop: Workshop, sources: Mapping[str, Path], knobs: QueriesAndLayers) -> dict[str, Path]:
    """Model files by name: each source at the workshop's image size with each setting of the other knobs."""
    files: dict[str, Path] = {}
    teacher_size = read_info(bench.teacher).input_size
    pixels = "" if workshop.size == teacher_size else ", {} x {} pixels".format(*workshop.size)
    for source, original in sources.items():
        for queries, layers in knobs:
            name = f"{source}, {queries} queries, {layers} layers{pixels}"
            files[name] = bench.folder / "knobs" / f"{name}.safetensors"
            model = truncated(load_model(original), num_queries=queries, decoder_layers=layers)
            save_model(files[name], model, replace(read_info(original), input_size=workshop.size))
    return files


def _ratios(bench: Bench, workshop: Workshop, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Latency of each over the first's, on OpenVINO, in turns with it."""
    exported, options = bench.folder / "knobs" / "exports", ExportOptions()  # each at its own image size
    exported.mkdir(parents=True, exist_ok=True)
    written = [exported / f"{number}.xml" for number in range(len(files))]
    for target, file in zip(written, files.values(), strict=True):
        write_exported(target, file=file, format_="openvino", options=options)
    timed = measure(written, None, workshop.settings.rounds).files
    return {
        name: {"ratio": each.ratio.median, "ratio_low": each.ratio.low, "ratio_high": each.ratio.high}
        for name, each in zip(files, timed, strict=True)
    }
