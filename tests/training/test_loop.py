"""What a whole training promises: nothing but what was asked for changes its pictures and weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from detrofit import DetrofitError
from detrofit.training.keeper import Keeper
from detrofit.training.loop import resume, train
from detrofit.training.run_folder import BEST, LAST, METRICS
from detrofit.training.step import Stepper
from detrofit.weights.model_file import read_info


class Stopped(Exception):
    """Ends a training where a test has seen enough, or stands for an interruption."""


@pytest.fixture
def first_update(monkeypatch):
    """Starts a training and returns its first batches and its initial weights."""

    def start(experiment):
        seen = {}

        def update(stepper, batches, step, several_sizes):
            seen["batches"] = batches
            seen["weights"] = {name: tensor.clone() for name, tensor in stepper.model.state_dict().items()}
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(Stepper, "update", update)
            with pytest.raises(Stopped):
                train(experiment)
        return seen["batches"], seen["weights"]

    return start


def test_a_swap_changes_no_other_initial_value_and_no_picture(tiny, first_update):
    batches, weights = first_update(tiny())
    swapped_batches, swapped = first_update(tiny(retrofit={"backbone.stage4.block": "extradw", "loss.box": "siou"}))
    common = weights.keys() & swapped.keys()
    assert all(name.startswith("backbone.stage4.") for name in weights.keys() ^ swapped.keys())
    assert len(common) > 200
    for name in common:
        assert torch.equal(weights[name], swapped[name]), name
    for (images, targets), (other_images, other_targets) in zip(batches, swapped_batches, strict=True):
        assert torch.equal(images, other_images)
        for target, other in zip(targets, other_targets, strict=True):
            assert target["image_index"] == other["image_index"] and torch.equal(target["boxes"], other["boxes"])


def test_the_number_of_workers_changes_no_weight(tiny):
    alone, helped = (
        train(tiny(**{"name": f"workers{workers}", "workers": workers, "train.epochs": 1})).folder for workers in (0, 2)
    )
    one, other = load_file(alone / LAST), load_file(helped / LAST)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert (alone / METRICS).read_text() == (helped / METRICS).read_text()


def test_an_epoch_cut_off_before_its_validation_is_recorded_once(tiny, monkeypatch):
    """The state of an epoch's last step is saved, then the run dies while it validates: nothing is left to train."""
    settings = {"train.accumulate": 2, "train.save_every": 1, "train.epochs": 2}  # two updates of three batches
    straight = train(tiny(**settings, name="straight")).folder
    validate = Keeper.validate

    def record_and_die(keeper, progress):
        evaluation = validate(keeper, progress)
        if progress.epoch == 1:
            raise Stopped
        return evaluation

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "validate", record_and_die)
        with pytest.raises(Stopped):
            train(tiny(**settings, name="cut"))
    cut = resume(tiny(name="cut").runs / "cut").folder
    assert (cut / METRICS).read_text() == (straight / METRICS).read_text()
    assert [json.loads(line)["epoch"] for line in (cut / METRICS).read_text().splitlines()] == [1, 2]
    for file in (BEST, LAST):
        one, other = load_file(cut / file), load_file(straight / file)
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    assert read_info(cut / LAST).trained["epochs"] == 2


def test_a_resumed_run_needs_its_starting_weights_no_more_but_the_same_data(tiny, tmp_path):
    first = train(tiny(**{"name": "first", "train.epochs": 1})).folder
    start = first / LAST
    run = train(tiny(**{"name": "second", "train.epochs": 1, "weights": str(start)})).folder
    start.unlink()
    assert resume(run).best == resume(run).best
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "train": {**config["train"], "batch": 2}}))
    with pytest.raises(DetrofitError, match="has another number of pictures"):
        resume(run)


def test_a_run_whose_boxes_changed_is_not_resumed(tiny, tiny_data, tmp_path):
    data = Path(shutil.copytree(tiny_data.parent, tmp_path / "own")) / tiny_data.name
    run = train(tiny(**{"name": "run", "train.epochs": 1, "data": data})).folder
    resume(run)
    (boxes, *_) = sorted((tmp_path / "own").rglob("labels/train/*.txt"))
    boxes.write_text("0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(DetrofitError, match=r"boxes of the split 'train' of .* have changed since .*run began"):
        resume(run)


def test_a_run_whose_parts_changed_is_not_resumed(tiny):
    run = train(tiny(**{"name": "run", "train.epochs": 1})).folder
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**config, "retrofit": {"backbone.stage4.block": "extradw"}}))
    with pytest.raises(DetrofitError, match="does not fit its configuration") as caught:
        resume(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_boxes_is_refused_before_any_work(tiny, tiny_data, tmp_path, split):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(tiny_data.parent, folder)
    for file in (folder / "labels" / split).iterdir():
        file.write_text("")
    with pytest.raises(DetrofitError, match=f"the split '{split}' .* has no boxes"):
        train(tiny(data=folder / "data.yaml"))
    assert [path.name for path in tmp_path.iterdir()] == ["copy"]


def test_a_missing_picture_is_named_before_any_work(tiny, tiny_data, tmp_path):
    from detrofit.data.convert import convert_dataset
    from detrofit.data.open import open_dataset

    folder = convert_dataset(open_dataset(tiny_data), "coco", tmp_path / "coco").destination
    gone = sorted((folder / "images" / "train").iterdir())[3]
    gone.unlink()
    with pytest.raises(DetrofitError, match=f"1 of 12 pictures of the split 'train' .* the first is .*{gone.name}"):
        train(tiny(data=folder))
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_a_fault_of_a_split_that_is_not_trained_on_is_known_before_any_work(tiny, tiny_data, tmp_path):
    from detrofit.data.convert import convert_dataset
    from detrofit.data.open import open_dataset

    folder = convert_dataset(open_dataset(tiny_data), "coco", tmp_path / "coco").destination
    (folder / "annotations" / "test.json").write_text("{")
    with pytest.raises(DetrofitError, match=r"test\.json is not valid JSON"):
        train(tiny(data=folder))
    assert [path.name for path in tmp_path.iterdir()] == ["coco"]


def test_data_without_a_split_to_validate_on_tells_the_way_out(tiny, tiny_data, tmp_path):
    config = yaml.safe_load(tiny_data.read_text())
    del config["val"]
    data = tmp_path / "data.yaml"
    data.write_text(yaml.safe_dump({**config, "path": str(tiny_data.parent)}))
    with pytest.raises(DetrofitError, match=r"no split 'val', only: train, test; .* train\.val_split"):
        train(tiny(data=data))


def test_a_wrong_swap_is_known_before_the_data_is_read(tiny):
    experiment = tiny(data="/absent/data.yaml", retrofit={"backbone.stage4.block": "extradv"})
    with pytest.raises(DetrofitError, match="did you mean 'extradw'"):
        train(experiment)


def test_nothing_to_train_is_refused(tiny):
    with pytest.raises(DetrofitError, match=r"train\.freeze leaves nothing to train"):
        train(tiny(**{"train.freeze": ["backbone", "encoder", "decoder"]}))
