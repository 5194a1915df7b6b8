"""The whole journey from an untrained model to a lighter one: train, graft, finish, and a study for the verdict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from detrofit.comparison.splits import prepare_data
from detrofit.comparison.statistics import MOST_SEEDS
from detrofit.comparison.study import Study, load_study
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.config.models import build
from detrofit.config.schema import Experiment
from detrofit.errors import DetrofitError
from detrofit.evaluation.curves import read_metrics
from detrofit.files import write_file
from detrofit.grafting.finish import full_rates, rebuild
from detrofit.grafting.graft import GraftResult, graft
from detrofit.grafting.library import KEEP, find_slots
from detrofit.grafting.parallel import OpenExecutor
from detrofit.grafting.runs import train_in
from detrofit.grafting.workshop import GraftSettings, check_runtime, check_search_split
from detrofit.training.run_folder import METRICS
from detrofit.weights.model_file import load_model, read_info

TEACHER, GRAFT, STUDY = "teacher", "graft", "study"
FINISH_SHARE = 0.2  # of the teacher's epochs, for the fine-tuning and each run of the study


@dataclass(frozen=True)
class SearchResult:
    """A finished search: the graft, and the folder of the study; None where the original is best or none was asked."""

    graft: GraftResult
    study: Path | None


def search(
    experiment: Experiment,
    out: str | Path,
    settings: GraftSettings,
    *,
    seeds: int = 3,
    executor: OpenExecutor | None = None,
) -> SearchResult:
    """Train a teacher, graft it, fine-tune both, and compare them over seeds on the test split.

    The study starts both models from the weights that they had before the fine-tuning and gives both the same epochs,
    with the teacher's own recipe, as the fine-tuning had;
    it is the one place where the test split is looked at. Called again with the same `out` it goes on where it was
    stopped; another search there is a DetrofitError. With `seeds` 0 there is no study. Candidates are scored on the
    split that chose the teacher's checkpoint. `executor` opens where the candidates and the study's runs are trained,
    by default here.
    """
    out = Path(out)
    settings = replace(settings, search_split=experiment.train.val_split)
    _check(experiment, settings, seeds)
    experiment = _divided(experiment, settings, out)
    values = {**experiment.model_dump(mode="json"), "runs": str(out), "name": TEACHER}
    teacher = train_in(out / TEACHER, load_experiment(values))
    trained = read_metrics(teacher.with_name(METRICS))[-1]["epoch"]
    epochs = settings.finish_epochs or max(1, round(FINISH_SHARE * trained))
    split = experiment.train.val_split
    settings = replace(settings, finish_epochs=epochs, search_split=split, recipe=_recipe(experiment))
    study_of = partial(study_values, experiment, teacher, epochs=epochs, seeds=seeds)
    result = graft(
        teacher, experiment.data, out / GRAFT, settings, executor=executor,
        check=lambda chosen: seeds and _load_study(study_of(chosen)),
    )  # fmt: skip
    if not seeds or result.results["winner"] == KEEP:
        return SearchResult(result, None)
    _run_study(study_of(_assembly_file(result)), out / STUDY, executor)
    return SearchResult(result, out / STUDY)


def _recipe(experiment: Experiment) -> dict[str, Any]:
    """How graft and original are fine-tuned, in the study, too: as the original was trained, but for what suits its
    length or its parts alone."""
    train = experiment.train.model_dump(mode="json", exclude=_OF_ITS_OWN)
    return {"train": train, "augment": experiment.augment.model_dump(mode="json")}


def _divided(experiment: Experiment, settings: GraftSettings, out: Path) -> Experiment:
    """The experiment on data with a split to choose on and another for the verdict.

    Where one of them must be drawn from train, that is done before the teacher learns: neither may what chose its
    checkpoint judge, nor what it has seen choose.
    """
    splits = prepare_data(experiment.data, settings.search_split, settings.test_split, out)
    train = experiment.train.model_copy(update={"val_split": splits.val_split})
    return experiment.model_copy(update={"data": splits.path, "train": train})


def _check(experiment: Experiment, settings: GraftSettings, seeds: int) -> None:
    """DetrofitError for what graft and study would only meet once the teacher is trained."""
    if seeds > MOST_SEEDS:
        raise DetrofitError(f"--seeds {seeds}: give up to {MOST_SEEDS}, for which the sign-flip test is exact")
    check_runtime(settings)
    check_search_split(experiment.data, settings)
    model = experiment.model
    untrained = build(model.name, experiment.retrofit, num_classes=1, settings=model.frame, plugins=experiment.plugins)
    find_slots(untrained, settings.slots, settings.candidates, source=model.name)


def _run_study(values: dict[str, Any], folder: Path, executor: OpenExecutor | None) -> None:
    """The teacher and the grafted model, both fine-tuned alike over seeds, scored on the test split."""
    import yaml

    from detrofit.comparison.compare import plan_study, run_study
    from detrofit.comparison.executors import WORKER

    write_file(folder / "study.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    run_study(plan_study(_load_study(values), folder), executor and executor(WORKER))


def _load_study(values: dict[str, Any]) -> Study:
    """A checked study; DetrofitError where it cannot say what the graft has changed."""
    try:
        return load_study(values)
    except DetrofitError as error:
        raise DetrofitError(f"no study can compare the graft: {error}; --seeds 0 ends without one") from None


def study_values(experiment: Experiment, teacher: Path, chosen: Path, epochs: int, seeds: int) -> dict[str, Any]:
    """The study of a graft, the file of the chosen model, as its YAML holds it."""
    original = rebuild(teacher, tuple(experiment.plugins))
    base = {
        "model": original["model"],
        "retrofit": original["retrofit"],
        "weights": str(teacher),
        **{key: value for key, value in experiment.model_dump(mode="json").items() if key in _SHARED},
        **_recipe(experiment),
    }
    split = experiment.train.val_split
    base = merge_dotted(base, {"train.epochs": epochs, "train.teacher": str(teacher), "train.val_split": split})
    grafted = rebuild(chosen, tuple(experiment.plugins))
    old, new = (load_model(file, plugins=experiment.plugins) for file in (teacher, chosen))
    rates = full_rates(old, new, read_info(teacher).input_size)
    changes = {
        **_only_new(grafted["retrofit"], base["retrofit"]),
        "weights": str(chosen),
        "train.lr_by_slot": rates,
    }
    return {**base, "seeds": seeds, "variants": {"grafted": changes}}


_SHARED = ("data", "imgsz", "plugins", "device", "workers")
_OF_ITS_OWN = {
    "epochs", "warmup_steps", "lr_by_slot", "freeze", "frozen_norms", "warm_start", "warm_start_steps", "val_split",
    "teacher",
}  # fmt: skip


def _only_new(retrofit: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
    return {address: choice for address, choice in retrofit.items() if known.get(address) != choice}


def _assembly_file(result: GraftResult) -> Path:
    """The chosen model before it was fine-tuned."""
    file = result.folder / "assemblies" / f"{result.results['winner']}.safetensors"
    if not file.exists():
        raise DetrofitError(f"{file} is not there any more; remove {result.folder / 'assemblies'} to make it again")
    return file
