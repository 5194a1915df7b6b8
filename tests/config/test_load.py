from __future__ import annotations

import pytest

from detrofit import DetrofitError
from detrofit.config.load import load_experiment, merge_dotted, parse_assignments, read_yaml

BASE = {"model": "rtdetr-n", "data": "data.yaml"}


def test_a_model_is_a_name_or_a_name_with_numbers_of_the_frame():
    assert load_experiment(BASE).model.name == "rtdetr-n"
    experiment = load_experiment(merge_dotted(BASE, {"model.num_queries": 50}))
    assert (experiment.model.name, experiment.model.frame) == ("rtdetr-n", {"num_queries": 50})


def test_the_written_configuration_reads_back_to_the_same():
    experiment = load_experiment({**BASE, "imgsz": 320, "retrofit": {"loss.box": "siou"}, "train": {"epochs": 3}})
    assert experiment.imgsz == (320, 320)
    assert load_experiment(experiment.model_dump(mode="json")) == experiment


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train.epoch": 3}, "there is no setting 'train.epoch' .*; did you mean 'train.epochs'"),
        ({"bacth": 3}, "there is no setting 'bacth' .*; did you mean 'train.batch'"),
        ({"lr": 3}, "there is no setting 'lr' .*; did you mean 'train.lr'"),
        ({"gibberish": 3}, "there is no setting 'gibberish'"),
        ({"train.lr": -1}, "setting 'train.lr' = -1: input should be greater than 0"),
        ({"train.lr": "fast"}, "setting 'train.lr' = 'fast'"),
        ({"imgsz": 250}, "setting 'imgsz.0' = 250: input should be a multiple of 32"),
        ({"augment.zoom_out": 1.5}, "setting 'augment.zoom_out' = 1.5"),
    ],
)
def test_a_bad_setting_is_named(settings, message):
    with pytest.raises(DetrofitError, match=message):
        load_experiment(merge_dotted(BASE, settings))


def test_a_missing_setting_is_named():
    with pytest.raises(DetrofitError, match="setting 'data' is required"):
        load_experiment({"model": "rtdetr-n"})


def test_assignments_are_yaml():
    assert parse_assignments(["a.b=[1, 2]", "c={part: ib, expand: 2.0}", "d=1e-3", "e="], "--set") == {
        "a.b": [1, 2],
        "c": {"part": "ib", "expand": 2.0},
        "d": "1e-3",  # YAML 1.1 wants a dot; the schema turns the text into a number
        "e": None,
    }
    assert load_experiment(merge_dotted(BASE, parse_assignments(["train.lr=1e-3"], "--set"))).train.lr == 1e-3
    with pytest.raises(DetrofitError, match="--set takes KEY=VALUE, not 'abc'"):
        parse_assignments(["abc"], "--set")
    for value in ("{x: [", "2024-13-45"):
        with pytest.raises(DetrofitError, match="--set a: no readable YAML value"):
            parse_assignments([f"a={value}"], "--set")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"a: [", "no readable YAML"),
        (b"a: 2024-13-45", "no readable YAML"),
        (b"- a", "must hold a mapping"),
        (b"\xff\xfe\x00", "no readable"),
    ],
)
def test_a_bad_configuration_file_is_one_line(tmp_path, content, message):
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DetrofitError, match=message) as caught:
        read_yaml(file)
    assert "\n" not in str(caught.value)


def test_yaml_never_builds_objects(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model: !!python/object/apply:os.system ['echo harm']")
    with pytest.raises(DetrofitError, match="no readable YAML"):
        read_yaml(file)


def test_a_tilde_in_a_file_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    paths = {"data": "~/d", "runs": "~/r", "plugins": ["~/p.py"], "weights": "~/w.pth", "train": {"teacher": "~/t"}}
    experiment = load_experiment({"model": "rtdetr-n", **paths})
    assert (experiment.data, experiment.runs) == (tmp_path / "d", tmp_path / "r")
    assert (experiment.plugins, experiment.train.teacher) == ([tmp_path / "p.py"], tmp_path / "t")
    assert experiment.weights == str(tmp_path / "w.pth")
