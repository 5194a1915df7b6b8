"""What the parts of benchmarks/graft.py work with: data, recipes, and a teacher with the folder of all done to it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import results

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.grafting.runs import train_in
from detrofit.grafting.workshop import GraftSettings, Workshop, open_workshop
from detrofit.model.costs import count_parameters
from detrofit.model.fuse import fuse
from detrofit.training.run_folder import BEST, METRICS
from detrofit.weights.model_file import load_model

RECORD = Path(__file__).with_name("graft.json")
RECIPE: dict[str, Any] = {"model": "rtdetr-n", "weights": "none", **results.RECIPE}
# Data, what is different there, seeds, and how the runs of results.py are named that are teachers.
SETS: dict[str, tuple[str, dict[str, Any], tuple[int, ...], str]] = {
    "cards": (*results.OTHER_DATA["cards-0"], (0, 1, 2), "cards"),
    "bccd": ("bccd", results.FLIPS, (2,), "b"),  # what b-0 and b-1 took is of a slower version
    "deeppcb": (*results.OTHER_DATA["deeppcb-0"], (0,), "deeppcb"),
}
EXTRADW = {"part": "extradw", "expand": 2.0, "at": {"shortcut": "vd"}}
NARROW = {"part": "csp-rep", "expansion": 0.25, "blocks": 1}
BLOCKS, NECK = "backbone.stage[1,2,3,4].block", "encoder.fusion_block"
TOOL: dict[str, Any] = {  # the step `graft`: few enough candidates to cost about one training of a small teacher
    "slots": (BLOCKS, NECK),
    "candidates": (EXTRADW, {**EXTRADW, "part": "ib"}, {"part": "basic", "width": 0.5}, NARROW, "none"),
    "assemblies": 3,
}
STEPS_OF_LOCAL_TRAINING, NORM_PICTURES, FINISH_EPOCHS = 150, 160, 4
Row = dict[str, Any]


class Bench:
    """One teacher with all that is done to it, in a folder of its own."""

    def __init__(self, name: str, given: argparse.Namespace) -> None:
        self.name, self.record = name, given.record
        self.local = {"steps": given.steps, "second_steps": given.steps, "batch": given.batch,
                      "rounds": given.rounds, "runtime": given.runtime, "norm_pictures": NORM_PICTURES}  # fmt: skip
        kind, seed = name.rsplit("-", 1)
        data, self.changes, seeds, run = SETS[kind]
        self.is_first = kind == next(iter(SETS)) and int(seed) == seeds[0]  # it has the free knobs and the rivals
        self.path, self.seed, self.folder = given.data / data, int(seed), given.runs / name
        epochs = {**RECIPE, **self.changes}["train.epochs"]
        self.finish_epochs = min(given.finish, max(1, epochs // 6))  # short beside the teacher's training
        self.known_teacher = None if given.teachers is None else given.teachers / f"{run}-{seed}"

    def values(self, **changes: Any) -> dict[str, Any]:
        """The settings of a training from random numbers."""
        fixed = {"data": str(self.path), "runs": str(self.folder), "seed": self.seed}
        return merge_dotted(merge_dotted(fixed, {**RECIPE, **self.changes}), changes)

    def train(self, name: str, **changes: Any) -> Path:
        """The best model file of a training, gone on with if it was stopped."""
        return train_in(self.folder / name, load_experiment(self.values(name=name, **changes)))

    @property
    def teacher(self) -> Path:
        return self.folder / "teacher" / BEST

    def row(self, step: str) -> Row:
        """What another step of this teacher found; DetrofitError where it has not been done."""
        found = read_record(self.record).get(f"{self.name}/{step}")
        if found is None:
            raise DetrofitError(f"this needs {self.name}/{step}, which is not done")
        return found

    def settings(self, **changes: Any) -> GraftSettings:
        values: dict[str, Any] = {"seed": self.seed, "workers": 0, "knobs": False, **self.local, **changes}
        return GraftSettings(**values)

    def workshop(self, folder: str, **changes: Any) -> Workshop:
        """A graft's folder, with the slots and candidates to try there."""
        return open_workshop(self.teacher, self.path, self.folder / folder, self.settings(**changes))

    def tool(self, folder: str = "graft") -> Workshop:
        """The folder of the step `graft`, or another with the same slots and candidates."""
        return self.workshop(folder, **TOOL)


def scored(file: Path) -> Row:
    """What a training came to, on its validation split; parameters are those of the deploy form."""
    rows = read_metrics(file.with_name(METRICS))
    return {"val AP": max(row["AP"] for row in rows), "epochs": rows[-1]["epoch"],
            "parameters": count_parameters(fuse(load_model(file)))}  # fmt: skip


def read_record(record: Path) -> dict[str, Row]:
    """The rows of a record by part; none before the first is done."""
    return json.loads(record.read_text("utf-8")) if record.exists() else {}
