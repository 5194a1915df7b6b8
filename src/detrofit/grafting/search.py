"""The whole journey from an untrained model to a lighter one: train, graft, finish, and a study for the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detrofit.config.load import load_experiment, merge_dotted
from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.files import write_file
from detrofit.grafting.finish import rebuild
from detrofit.grafting.graft import GraftResult, graft
from detrofit.grafting.workshop import GraftSettings
from detrofit.training.loop import resume, train
from detrofit.training.run_folder import BEST
from detrofit.training.state import FILE as STATE

TEACHER, GRAFT, STUDY = "teacher", "graft", "study"
FINISH_SHARE = 0.2  # of the teacher's epochs, for the fine-tuning and each run of the study


@dataclass(frozen=True)
class SearchResult:
    """A finished search: the graft, and the folder of the study; None where the original is best or none was asked."""

    graft: GraftResult
    study: Path | None


def search(experiment: Experiment, out: str | Path, settings: GraftSettings, *, seeds: int = 3) -> SearchResult:
    """Train a teacher, graft it, fine-tune both, and compare them over seeds on the test split.

    The study starts both models from the weights that they had before the fine-tuning and gives both the same epochs;
    it is the one place where the test split is looked at. Called again with the same `out` it goes on where it was
    stopped. With `seeds` 0 there is no study.
    """
    out = Path(out)
    teacher = _train_teacher(experiment, out)
    epochs = settings.finish_epochs or max(1, round(FINISH_SHARE * _epochs(teacher)))
    result = graft(teacher, experiment.data, out / GRAFT, replace(settings, finish_epochs=epochs))
    if not seeds or result.results["winner"] == "keep":
        return SearchResult(result, None)
    _study(experiment, teacher, result, out / STUDY, epochs, seeds)
    return SearchResult(result, out / STUDY)


def _train_teacher(experiment: Experiment, out: Path) -> Path:
    """The teacher's best model file, trained or gone on with."""
    run = out / TEACHER
    if (run / STATE).exists():
        return resume(run).folder / BEST
    return (
        train(load_experiment({**experiment.model_dump(mode="json"), "runs": str(out), "name": TEACHER})).folder / BEST
    )


def _epochs(teacher: Path) -> int:
    from detrofit.weights.model_file import read_info

    return int(read_info(teacher).trained.get("epochs", 10))


def _study(experiment: Experiment, teacher: Path, result: GraftResult, folder: Path, epochs: int, seeds: int) -> None:
    """The teacher and the grafted model, both fine-tuned alike over seeds, scored on the test split."""
    import yaml

    from detrofit.comparison.compare import plan_study, run_study
    from detrofit.comparison.study import load_study

    values = study_values(experiment, teacher, result, epochs, seeds)
    write_file(folder / "study.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    run_study(plan_study(load_study(values), folder))


def study_values(experiment: Experiment, teacher: Path, result: GraftResult, epochs: int, seeds: int) -> dict[str, Any]:
    """The study of a graft, as its YAML holds it."""
    chosen = _assembly_file(result)
    base = {
        "model": rebuild(teacher)["model"],
        "retrofit": rebuild(teacher)["retrofit"],
        "weights": str(teacher),
        **{key: value for key, value in experiment.model_dump(mode="json").items() if key in _SHARED},
    }
    base = merge_dotted(base, {"train.epochs": epochs, "train.teacher": str(teacher)})
    grafted = rebuild(chosen)
    changes = {**_only_new(grafted["retrofit"], base["retrofit"]), "weights": str(chosen)}
    return {**base, "seeds": seeds, "variants": {"grafted": changes}}


_SHARED = ("data", "imgsz", "plugins", "device", "workers", "augment", "train")


def _only_new(retrofit: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {address: choice for address, choice in retrofit.items() if known.get(address) != choice}


def _assembly_file(result: GraftResult) -> Path:
    """The chosen model before it was fine-tuned."""
    file = result.folder / "assemblies" / f"{result.results['winner']}.safetensors"
    if not file.exists():
        raise DetrofitError(f"{file} is not there any more; remove {result.folder / 'assemblies'} to make it again")
    return file
