"""Grafts and free knobs together: fewer queries and decoder layers, then the short fine-tuning that grafts have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graft_bench import Bench, Row

from detrofit.deployment.export import write_exported
from detrofit.deployment.latency import measure
from detrofit.deployment.onnx import ExportOptions
from detrofit.grafting.cost import timed_picture
from detrofit.grafting.finish import finish
from detrofit.grafting.score import Scorer
from detrofit.grafting.workshop import Workshop
from detrofit.model.costs import count_parameters
from detrofit.weights.model_file import load_model, read_info, save_model
from detrofit.weights.truncate import truncated

KNOBS = ((100, 3), (50, 3), (25, 3), (50, 2), (25, 2))  # queries and decoder layers; the first is rtdetr-n as it is


def with_knobs(bench: Bench, workshop: Workshop, sources: Mapping[str, Path]) -> Row:
    """Of each source (the teacher, and grafts before any fine-tuning) all `KNOBS`: AP before and after fine-tuning,
    parameters, and latency over that of the teacher as it is."""
    scorer, files, before = Scorer(workshop), dict[str, Path](), dict[str, float]()
    for source, original in sources.items():
        for queries, layers in KNOBS:
            name = f"{source}, {queries} queries, {layers} layers"
            files[name] = bench.folder / "knobs" / f"{name}.safetensors"
            model = truncated(load_model(original), num_queries=queries, decoder_layers=layers)
            save_model(files[name], model, read_info(original))
            before[name] = scorer.score(workshop.devices.place(model)).ap
    finished = finish(workshop, scorer, files, bench.finish_epochs)
    ratios = _ratios(bench, workshop, {"teacher": bench.teacher, **files})
    return {
        "knobs": {
            name: {
                "before": before[name],
                "finished": asdict(finished[name]["score"]),
                "cost": {**ratios[name], "parameters": count_parameters(load_model(file))},
            }
            for name, file in files.items()
        }
    }


def _ratios(bench: Bench, workshop: Workshop, files: Mapping[str, Path]) -> dict[str, dict[str, Any]]:
    """Latency of each over the first's, on OpenVINO, in turns with it."""
    exported, options = bench.folder / "knobs" / "exports", ExportOptions(workshop.size)
    exported.mkdir(parents=True, exist_ok=True)
    written = [exported / f"{number}.xml" for number in range(len(files))]
    for target, file in zip(written, files.values(), strict=True):
        write_exported(target, file=file, format_="openvino", options=options)
    timed = measure(written, timed_picture(workshop), workshop.settings.rounds).files
    return {
        name: {"ratio": each.ratio.median, "ratio_low": each.ratio.low, "ratio_high": each.ratio.high}
        for name, each in zip(files, timed, strict=True)
    }
