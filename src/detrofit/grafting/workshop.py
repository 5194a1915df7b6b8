"""What every step of a graft works with: the trained model, the pictures, the folder, the settings."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from detrofit.comparison.latencies import installed_runtimes
from detrofit.comparison.splits import prepare_data
from detrofit.data.index import DetectionIndex
from detrofit.data.loader import TrainingLoader
from detrofit.data.open import open_dataset
from detrofit.data.transforms import PUBLISHED_AUGMENTATION
from detrofit.deployment.bench_files import read_timed
from detrofit.distillation.features import Batch
from detrofit.distillation.norms import NormShift
from detrofit.errors import DetrofitError, missing_extra
from detrofit.files import file_digest, write_file
from detrofit.grafting.budget import Budget
from detrofit.grafting.clock import now_and_then
from detrofit.grafting.library import GraftSlot, find_slots
from detrofit.model.detector import RTDETR
from detrofit.randomness import derive_seed
from detrofit.training.devices import Devices
from detrofit.training.run_folder import BEST
from detrofit.training.score import check_classes
from detrofit.training.workers import default_workers
from detrofit.version import __version__
from detrofit.weights.model_file import ModelInfo, load_model, read_info

Runtime = Literal["openvino", "onnxruntime", "torch"]
IDENTITY = "graft.json"


@dataclass(frozen=True)
class GraftSettings:
    """How to graft.

    Attributes:
        slots, candidates: as `library.find_slots` takes them; empty for the defaults.
        budgets: limits that all count; without any, a front over several is looked for.
        runtime: what the latency is measured with; `bench`: a file of `detrofit bench` made on the device instead.
        steps, lr, batch, inside: of the local training; `second_steps` of the pass on the student's own inputs.
        cache: gigabytes that recorded features may take on the disk; beyond that they are streamed.
        norm_pictures: training pictures that batch norms are measured on.
        rounds: how often each model is timed; single swaps save little, so that few rounds choose by luck.
        assemblies: how many of the best choices are put together and measured.
        knobs: also measure what input size, queries and decoder layers give without any graft.
        finish_epochs: epochs of fine-tuning of those that are kept, and of the teacher; 0 for none.
        recipe: sections `train` and `augment` of an experiment, for the fine-tuning; empty for the defaults.
        test_split: never looked at; without a split beside it and train, a part of train is searched on.
    """

    slots: tuple[str, ...] = ()
    candidates: tuple[Any, ...] = ()
    budgets: tuple[Budget, ...] = ()
    runtime: Runtime = "openvino"
    bench: Path | None = None
    search_split: str = "val"
    test_split: str = "test"
    steps: int = 300
    lr: float = 2e-3
    batch: int = 16
    inside: float = 1.0
    second_steps: int = 150
    cache: float = 2.0
    norm_pictures: int = 320
    rounds: int = 100
    assemblies: int = 4
    finish_epochs: int = 0
    recipe: Mapping[str, Any] = field(default_factory=dict)
    knobs: bool = True
    seed: int = 0
    device: str = "auto"
    workers: int | None = None
    plugins: tuple[Path, ...] = ()


@dataclass
class Workshop:
    """A graft in its folder, whose files hold what is done, so that one that was stopped goes on.

    `source` is the data as given, `data_path` that with a split to search on.
    """

    file: Path
    source: Path
    data_path: Path
    folder: Path
    settings: GraftSettings
    teacher: RTDETR
    info: ModelInfo
    train: DetectionIndex
    search: DetectionIndex
    slots: list[GraftSlot]
    devices: Devices
    notes: list[str] = field(default_factory=list)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the model's input."""
        return self.info.input_size

    @cached_property
    def loader(self) -> TrainingLoader:
        """Training pictures, augmented as published."""
        return self._loader("local training")

    @cached_property
    def norm_loader(self) -> TrainingLoader:
        """Training pictures for measuring norms."""
        return self._loader("norms")

    def _loader(self, purpose: str) -> TrainingLoader:
        return TrainingLoader(
            self.train,
            self.size,
            min(self.settings.batch, len(self.train)),
            seed=derive_seed(self.settings.seed, purpose),
            augmentation=PUBLISHED_AUGMENTATION,
            workers=default_workers(self.settings.workers),
        )

    def prepare(self, batch: Batch) -> Batch:
        """Pictures as floats on the device."""
        return self.devices.images(batch[0]), batch[1]

    def norm_images(self) -> Iterator[Tensor]:
        """The pictures that batch norms are measured on, the same at each call, changed by flips alone."""
        left = self.settings.norm_pictures
        for epoch in range(self.settings.norm_pictures):
            for images, _ in self.norm_loader.batches(epoch, strong=False):
                yield self.devices.images(images)
                left -= len(images)
                if left <= 0:
                    return

    @cached_property
    def norm_shift(self) -> NormShift:
        """Moves the norms of grafted models."""
        return NormShift(self.teacher, self.norm_images, [slot.unit for slot in self.slots])

    @property
    def looks(self) -> int:
        """How many models have been run on the search split."""
        return int(self.record("looks.json").get("looks", 0))

    def look(self, models: int = 1) -> None:
        """So many more models are run on the search split."""
        self.keep("looks.json", {"looks": self.looks + models})

    @contextmanager
    def clock(self, step: str) -> Iterator[None]:
        """Adds the time inside the context to what the step has taken, over all sittings; a kill loses a minute."""
        started, before = time.monotonic(), self.record("hours.json")

        def note() -> None:
            spent = before.get(step, 0.0) + (time.monotonic() - started) / 3600
            self.keep("hours.json", {**before, step: spent})

        with now_and_then(note):
            yield

    def note(self, text: str) -> None:
        """Something that whoever reads the results must know; once."""
        if text not in self.notes:
            self.notes.append(text)

    def record(self, name: str) -> dict[str, Any]:
        """What a JSON file of the folder holds; empty before it is written."""
        return _read(self.folder / name)

    def keep(self, name: str, content: Any) -> None:
        """Write a JSON file of the folder, whole."""
        write_file(self.folder / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def check_runtime(settings: GraftSettings) -> None:
    """DetrofitError where what the latency shall be measured with is not installed."""
    if settings.runtime not in installed_runtimes():
        raise missing_extra("openvino" if settings.runtime == "openvino" else "onnx", "export")


def check_search_split(data: Path, settings: GraftSettings) -> None:
    """DetrofitError for a split that nothing may be chosen on, or that is not there."""
    if settings.search_split == "train":
        raise DetrofitError("--search-split train: the candidates learn there; give a split that they have not seen")
    if settings.search_split == settings.test_split:
        raise DetrofitError(
            f"--search-split {settings.test_split}: the test split decides nothing, or it could not judge any more; "
            "leave it out: where there is no val, a part of train is searched on"
        )
    if settings.search_split != "val":
        open_dataset(data).split(settings.search_split)  # where it is not there, that is said


def open_workshop(file: Path, data: Path, folder: Path, settings: GraftSettings) -> Workshop:
    """Check everything that can be known before any work; DetrofitError for what is wrong."""
    file = file / BEST if file.is_dir() else file
    info = read_info(file)
    teacher = load_model(file, plugins=settings.plugins)
    slots = find_slots(teacher, settings.slots, settings.candidates, source=file.name)
    check_search_split(data, settings)
    if settings.bench is not None:
        read_timed(settings.bench)
    splits = prepare_data(data, settings.search_split, settings.test_split, folder, judged=False)
    dataset = open_dataset(splits.path)
    train, search = dataset.split("train"), dataset.split(splits.val_split)
    for index in (train, search):
        check_classes(info, index, file)
        if len(index) == 0:
            raise DetrofitError(f"the split '{index.split}' of {data} has no pictures")
    _claim(folder, file, splits.digest, settings)
    devices = Devices(settings.device)
    teacher = devices.place(teacher).eval().requires_grad_(False)
    workshop = Workshop(file, data, splits.path, folder, settings, teacher, info, train, search, slots, devices)
    for note in splits.notes:
        workshop.note(note)
    if splits.path != data.absolute():  # a part of train was drawn to be searched on
        workshop.note(
            f"the data has one split alone beside train, which is never looked at; {len(search)} pictures drawn from "
            "train are searched on: if the original was trained on them, its AP there flatters it, and what is lost "
            "against it is overrated"
        )
    return workshop


def _claim(folder: Path, file: Path, digest: str, settings: GraftSettings) -> None:
    """A folder holds one graft: other budgets may be asked of it, other models, data, plug-ins or trainings not."""
    free = (
        "budgets", "assemblies", "finish_epochs", "runtime", "rounds", "device", "workers", "cache", "plugins", "bench",
        "knobs", "recipe",
    )  # fmt: skip
    kept = {key: value for key, value in asdict(settings).items() if key not in free}
    content = {
        "detrofit": __version__,
        "teacher": file_digest(file),
        "data": digest,
        "plugins": sorted(map(file_digest, settings.plugins)),
        "settings": kept,
    }
    content = json.loads(json.dumps(content, default=str))
    known = _read(folder / IDENTITY)
    for key, value in _flat(content).items() if known else ():
        if _flat(known).get(key) != value:
            raise DetrofitError(f"{folder} holds a graft with another '{key}'; choose another --out")
    if not known:
        write_file(folder / IDENTITY, json.dumps(content, indent=1) + "\n")


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    return {**identity, **identity["settings"], "settings": None}


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text("utf-8")) if file.exists() else {}
    except ValueError:
        raise DetrofitError(f"{file} is damaged; remove it, and that step is done again") from None


@contextmanager
def progress_bar(title: str, total: int, done: int = 0) -> Iterator[Any]:
    """A bar with time left; gives the function that tells that one more is done."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        if not console.is_terminal:
            console.print(f"{title}: {total - done} to do", highlight=False, markup=False, soft_wrap=True)
        task = bar.add_task(title, total=total, completed=done)
        yield lambda: bar.advance(task)
