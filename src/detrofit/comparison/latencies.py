"""How long the models of a study take, fused and exported: all variants in turns in one process, once they are trained;
and the same of another device, from a file of `detrofit bench`."""

from __future__ import annotations

import datetime
import filecmp
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detrofit.comparison.study import Variant
from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError

Measurement = dict[str, Any]
HERE = "study"
UNTRAINED = "untrained"  # folder of models with random weights
_NEEDED_MODULES = {"torch": (), "onnxruntime": ("onnx",), "openvino": ("onnx", "openvino")}


def installed_runtimes() -> list[str]:
    """The runtimes for which a model can be exported and timed here, torch first."""
    return [name for name, modules in _NEEDED_MODULES.items() if all(map(importlib.util.find_spec, modules))]


def measurement_identity(variants: Sequence[Variant], class_names: Sequence[str], rounds: int) -> str:
    """A digest of all that is timed; with the same one nothing is measured again."""
    models = [[each.name, each.experiment.imgsz, each.described["model"], each.described["slots"]] for each in variants]
    content = json.dumps([models, list(class_names), rounds, installed_runtimes()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def are_outdated(trained: Mapping[str, Path], folder: Path) -> bool:
    """Whether `folder` holds models other than these trained ones under their names, as of a shorter training."""
    kept = {file: folder / f"{name}.safetensors" for name, file in trained.items()}
    return any(old.is_file() and not filecmp.cmp(old, file, shallow=False) for file, old in kept.items())


def measure_latencies(
    variants: Sequence[Variant],
    trained: Mapping[str, Path],
    class_names: Sequence[str],
    folder: Path,
    rounds: int,
    say: Callable[[str], None] = lambda line: None,
) -> Measurement:
    """Export every variant to every runtime installed, into `folder`, and time those of one runtime in turns.

    The base comes first, and all ratios are to it. A picture of each variant's own input size lies in memory, so that
    decoding and resizing count for nothing. A variant that cannot be exported to a runtime, or differs from its model
    there, is left out with a note.

    Args:
        trained: name to model file; for a variant without one (it was trained elsewhere) random weights are timed, and
            not compared with what they were exported from.
    """
    from detrofit.deployment.turns import WARM_UP

    entries: list[dict[str, Any]] = []
    notes: list[str] = []
    machine: dict[str, Any] = {}
    for runtime, files in _exports(variants, trained, class_names, folder, notes, say):
        if variants[0].name in files:
            say(f"timing {len(files)} models with {runtime}")
            with _noted(f"nothing was timed with {runtime}", notes):
                timed, machine = _time_in_turns(files, variants[0].experiment, runtime, rounds)
                entries += [each | {"trained": each["variant"] in trained} for each in timed]
    return {
        "source": HERE,
        "identity": measurement_identity(variants, class_names, rounds),
        "date": str(datetime.date.today()),
        "machine": machine,
        "rounds": rounds,
        "warm_up": WARM_UP,
        "batch": 1,
        "notes": notes,
        "files": entries,
    }


def _exports(
    variants: Sequence[Variant],
    trained: Mapping[str, Path],
    class_names: Sequence[str],
    folder: Path,
    notes: list[str],
    say: Callable[[str], None],
) -> Iterator[tuple[str, dict[str, Path]]]:
    """Each runtime with the files that could be made for it, by variant; why others could not goes to `notes`."""
    models: dict[str, Path] = {}
    for each in variants:
        with _noted(f"'{each.name}' was not timed", notes):
            models[each.name] = _model_file(each, trained, class_names, folder)
    for runtime in installed_runtimes():
        files: dict[str, Path] = {}
        for each in (variant for variant in variants if variant.name in models):
            say(f"exporting {each.name} to {runtime}")
            with _noted(f"'{each.name}' was not timed with {runtime}", notes):
                files[each.name] = _exported(models[each.name], each, runtime, each.name in trained)
        yield runtime, files


@contextmanager
def _noted(what: str, notes: list[str]) -> Iterator[None]:
    """What goes wrong inside is a note, whatever it is: parts of one's own and exporters raise anything, and trainings
    of hours must not end without a report."""
    try:
        yield
    except Exception as error:
        notes.append(f"{what}: {' '.join(str(error).split())[:300] or type(error).__name__}")


def _time_in_turns(
    files: Mapping[str, Path], base: Experiment, runtime: str, rounds: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """An entry for each of `files`, by name, and the machine."""
    import torch

    from detrofit.deployment.latency import measure, timing_device

    benchmark = measure(list(files.values()), None, rounds, device=timing_device(base.device, runtime))
    entries = [_entry(name, runtime, asdict(each)) for name, each in zip(files, benchmark.files, strict=True)]
    return entries, {**benchmark.machine, "torch_threads": torch.get_num_threads()}


def read_bench(file: Path, names: Iterable[str]) -> Measurement:
    """A file of `detrofit bench` as a measurement: what it calls a model is the variant that it is.

    Ratios are kept where the first entry is the base in the same runtime and precision. DetrofitError if it is no such
    file, a name is unknown, or comes twice with a runtime and precision.
    """
    from detrofit.deployment.bench_files import read_record

    names, content = list(names), read_record(file)
    try:
        entries = [_entry(each["variant"], each["runtime"], each) | {"trained": True} for each in content["files"]]
        head = {"machine": dict(content["machine"]), "threads": content["threads"]}
        head |= {key: int(content[key]) for key in ("rounds", "warm_up", "batch")}
    except (ValueError, KeyError, TypeError):
        raise DetrofitError(f"{file} is no file of `detrofit bench --out`; make it anew") from None
    keys = [(each["variant"], each["runtime"], each["precision"]) for each in entries]
    _check_keys(keys, names, file)
    for each, (_, *how) in zip(entries, keys, strict=True):
        if keys[0] != (names[0], *how):
            each["ratio"] = None
    return {"source": file.name, **head, "notes": [], "files": entries}


def _check_keys(keys: Sequence[tuple[str, str, str]], names: Sequence[str], file: Path) -> None:
    for number, key in enumerate(keys):
        if key[0] not in names:
            raise DetrofitError(
                f"{file}: '{key[0]}' is no variant of this study; time the files of its folder `exports`, or say which "
                f"one a file is with NAME=FILE; there are {', '.join(names)}"
            )
        if key in keys[:number]:
            raise DetrofitError(f"{file} has '{key[0]}' twice with {key[1]} in {key[2]}; time it once")


def _entry(name: str, runtime: str, content: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: content[key] for key in ("precision", "megabytes", "ratio")}
    steps = {step: dict(content["steps"][step]) for step in ("model", "total")}
    return {"variant": name, "runtime": runtime, "input_size": list(content["input_size"]), **kept, **steps}


def _model_file(variant: Variant, trained: Mapping[str, Path], class_names: Sequence[str], folder: Path) -> Path:
    """The variant's model file in `folder`, by its name; one of random weights lies apart, lest it be shipped."""
    if variant.name in trained:
        target = folder / f"{variant.name}.safetensors"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(trained[variant.name], target)
        return target
    target = folder / UNTRAINED / f"{variant.name}.safetensors"
    from detrofit.training.prepare import make_model
    from detrofit.training.state import Progress
    from detrofit.weights.model_file import ModelInfo, save_model

    model, _, _ = make_model(variant.experiment, tuple(class_names), Progress(), resumed=True)
    ids = tuple(range(len(class_names)))
    info = ModelInfo(variant.experiment.model.name, tuple(class_names), ids, variant.experiment.imgsz)
    save_model(target, model.eval(), info)
    return target


def _exported(model: Path, variant: Variant, runtime: str, trained: bool) -> Path:
    if runtime == "torch":
        return model
    from detrofit.deployment.export import Format, export_file
    from detrofit.deployment.parity import ParityLimits

    format_: Format = "openvino" if runtime == "openvino" else "onnx"
    limits = None if trained else ParityLimits(matched_share=None)
    return export_file(model, format_, plugins=variant.experiment.plugins, limits=limits).file
