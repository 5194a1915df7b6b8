"""The whole journey, in its smallest form: train, graft, fine-tune, study."""

from __future__ import annotations

import json

import pytest

from detrofit import DetrofitError, load
from detrofit.config.load import load_experiment, merge_dotted
from detrofit.config.schema import Experiment
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.open import open_dataset
from detrofit.distillation.swap import with_swaps
from detrofit.grafting import search as search_module
from detrofit.grafting import workshop
from detrofit.grafting.finish import _experiment, _mark
from detrofit.grafting.results import RESULTS
from detrofit.grafting.search import _load_study, _recipe, search, study_values
from detrofit.grafting.workshop import open_workshop
from detrofit.training.run_folder import RunFolder
from detrofit.weights.model_file import ModelInfo, save_model
from tests.distillation.tiny_models import swap, tiny_model
from tests.grafting.conftest import quick
from tests.training.conftest import TINY


def begun(monkeypatch) -> list[Experiment]:
    """What a teacher would be trained with; that ends the search."""
    found: list[Experiment] = []

    def stop(folder, experiment):
        found.append(experiment)
        raise KeyboardInterrupt

    monkeypatch.setattr(search_module, "train_in", stop)
    return found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"slots": ("backbone.stage9.block",)}, "rtdetr-n has no slot 'backbone.stage9.block'"),
        ({"candidates": ("starr",)}, "'starr' fits none of the slots"),
        ({"runtime": "openvino"}, "this needs 'openvino', which is not installed"),
    ],
)
def test_what_the_graft_would_refuse_is_told_before_the_teacher_is_trained(drawn, tmp_path, monkeypatch, changes, said):
    trained = begun(monkeypatch)
    monkeypatch.setattr(workshop, "installed_runtimes", lambda: ["torch"])
    experiment = load_experiment(merge_dotted({"data": drawn, "weights": "none"}, TINY))
    with pytest.raises(DetrofitError, match=said):
        search(experiment, tmp_path / "out", quick("0.9x", **changes))
    assert not trained and not (tmp_path / "out").exists()


def test_more_seeds_than_a_study_takes_are_told_before_the_teacher_is_trained(drawn, tmp_path, monkeypatch):
    trained = begun(monkeypatch)
    experiment = load_experiment(merge_dotted({"data": drawn, "weights": "none"}, TINY))
    with pytest.raises(DetrofitError, match="--seeds 41: give up to 40"):
        search(experiment, tmp_path / "out", quick(), seeds=41)
    assert not trained


def test_the_teacher_of_another_search_is_not_taken(drawn, tmp_path):
    values = merge_dotted({"data": drawn, "weights": "none"}, TINY)
    RunFolder(tmp_path / "teacher", writes=True).write_config(load_experiment(values))
    longer = load_experiment(merge_dotted(values, {"train.epochs": 80}))
    with pytest.raises(DetrofitError, match=r"teacher holds a training with another .train.epochs.; choose another"):
        search(longer, tmp_path, quick())


def test_a_study_that_cannot_hold_the_graft_beside_its_original_is_one_line(drawn, tmp_path):
    teacher = tiny_model({"backbone.stage4.conv": "pconv"})
    for name, model in (("teacher", teacher), ("graft", with_swaps(teacher, swap("backbone.stage4.block", "extradw")))):
        save_model(tmp_path / name, model, ModelInfo("rtdetr-n", ("a", "b", "c"), (0, 1, 2), (64, 64)))
    experiment = load_experiment(merge_dotted({"data": drawn}, TINY))
    values = study_values(experiment, tmp_path / "teacher", tmp_path / "graft", epochs=1, seeds=2)
    with pytest.raises(DetrofitError, match=r"no study can compare .* slot backbone.stage4.conv .*; --seeds 0 ends"):
        _load_study(values)


def test_the_fine_tuning_has_the_teachers_recipe_but_for_its_length_and_parts(model_file, drawn, tmp_path):
    changes = {"train.warmup_steps": 2000, "train.freeze": ["backbone"], "train.lr_by_slot.encoder": 0.5,
               "train.lr": 3e-4, "augment.mosaic": 0.5}  # fmt: skip
    experiment = load_experiment(merge_dotted({"data": drawn}, TINY | changes))
    opened = open_workshop(model_file, drawn, tmp_path / "out", quick(recipe=_recipe(experiment)))
    tuned = _experiment(opened, model_file, tmp_path / "keep-1", 1)
    study = study_values(experiment, model_file, model_file, epochs=1, seeds=2)
    lr = experiment.train.lr
    assert (tuned.train.lr, tuned.augment.mosaic) == (lr, 0.5) == (study["train"]["lr"], study["augment"]["mosaic"])
    assert tuned.train.warmup_steps is None and not tuned.train.freeze and not tuned.train.lr_by_slot
    assert not {"warmup_steps", "freeze"} & study["train"].keys()
    assert _mark({}) == "" != _mark({"train": {"lr": 1.0}}) != _mark(opened.settings.recipe)


def test_what_the_teacher_is_chosen_on_is_never_what_the_study_judges_on(tmp_path, monkeypatch):
    data = draw_demo_dataset(tmp_path / "data", 0, pictures={"train": 16, "val": 3, "test": 2}, size=(64, 64))
    data.write_text(data.read_text().replace("test: images/test\n", ""))
    trained = begun(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        search(load_experiment(merge_dotted({"data": data, "weights": "none"}, TINY)), tmp_path / "out", quick())
    found = open_dataset(trained[0].data)
    assert [len(found.split(name)) for name in ("train", trained[0].train.val_split, "test")] == [8, 8, 3]
    names = [set(found.split(name).names()) for name in ("train", "val")]
    assert not names[0] & names[1]


@pytest.mark.slow
def test_from_an_untrained_model_to_a_study(drawn, tmp_path, without_gates):
    experiment = load_experiment(merge_dotted({"data": drawn, "weights": "none"}, {**TINY, "train.epochs": 1}))
    settings = quick("0.999xparams", candidates=("none",), assemblies=1, finish_epochs=1)
    result = search(experiment, tmp_path / "a search", settings, seeds=1)
    results = json.loads((result.graft.folder / RESULTS).read_text())
    fine_tuned = 2 * (1 + 1)  # the original and the graft, after their one epoch and at the end
    assert results["search"]["looks"] >= 2 + 2 + 1 + fine_tuned
    assert results["winner"] != "keep" and results["finished_teacher"]["ap"] >= 0
    assert all(each["finished"] for each in results["assembled"] if each["file"])
    best = load(result.graft.best)
    assert "none" in {best.slots[address]["part"] for address in best.retrofit}
    study = json.loads((result.study / "results.json").read_text())
    assert [line["name"] for line in study["variants"]] == ["base", "grafted"]
    assert all(line["done"] == 1 for line in study["variants"]), study["variants"]
    again = search(experiment, tmp_path / "a search", settings, seeds=1)
    assert again.graft.results["candidates"] == results["candidates"]
