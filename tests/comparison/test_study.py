from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detrofit.comparison.study import load_study, parse_external, parse_variants, read_study
from detrofit.errors import DetrofitError

BASE: dict[str, Any] = {"model": "rtdetr-n", "data": "data.yaml", "imgsz": 64, "train": {"epochs": 2}}
EXTRADW = {"backbone.stage4.block": "extradw"}


def test_a_variant_differs_from_the_base_by_its_mapping_alone() -> None:
    study = load_study({**BASE, "seeds": 3, "variants": {"extradw": EXTRADW, "both": {**EXTRADW, "train.lr": 1e-3}}})
    base, extradw, both = study.variants
    assert extradw.experiment.retrofit == EXTRADW and extradw.experiment.train == base.experiment.train
    assert extradw.changed_settings == [] and both.changed_settings == ["train.lr"]
    assert both.experiment.train.epochs == 2, "what the variant leaves out stays the base's"
    assert study.settings.seeds == [0, 1, 2]
    assert {each.experiment.weights for each in study.variants} == {"none"}, "published weights would favour the base"
    weighted = load_study({**BASE, "weights": "imagenet", "variants": {"extradw": EXTRADW}})
    assert {each.experiment.weights for each in weighted.variants} == {"imagenet"}


def test_controls_spend_what_the_variant_costs_in_other_ways() -> None:
    study = load_study({**BASE, "variants": {"deep": {"model.decoder_layers": 6}}, "controls": "all"})
    changes = [variant.changes for variant in study.variants if variant.kind == "control"]
    assert {"model.decoder_layers": 2} in changes and {"model.decoder_layers": 4} in changes
    assert {"imgsz": [96, 96]} in changes and {"imgsz": [32, 32]} in changes
    assert {"model": "rtdetr-s"} in changes
    assert any(change.get("train.epochs", 0) > 2 for change in changes), changes


def test_a_control_that_cannot_be_is_left_out_and_said() -> None:
    same = {"variants": {"smaller": {"imgsz": 32}}, "controls": ["smaller-input", "larger-input", "longer"]}
    study = load_study({**BASE, **same})
    assert [each.name for each in study.variants] == ["base", "smaller", "base at 96x96"]
    assert "control 'base at 32x32' is left out: it is the variant 'smaller'" in study.notes
    assert any(note.startswith("control 'longer' is left out: no variant takes more") for note in study.notes)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"variants": {"same": {}}}, "variant 'same' changes nothing"),
        ({"variants": {"same": {"loss.box": "giou"}}}, "variant 'same' changes nothing"),
        ({"variants": {"a": EXTRADW, "b": EXTRADW}}, "variants 'a' and 'b' are the same"),
        ({"variants": {"a": {"loss.box": "gious"}}}, "variant 'a': .*did you mean"),
        ({"variants": {"a": {"seed": 3}}}, "cannot change 'seed'"),
        ({"variants": {"base": EXTRADW}}, "two variants are called 'base'"),
        ({"variants": {"a/b": EXTRADW}}, "cannot name a variant"),
        ({"variants": {"a\nb": EXTRADW}}, r"'a\\nb' cannot name a variant"),
        ({"variants": {"a" * 121: EXTRADW}}, "cannot name a variant: .* up to 120 bytes"),
        ({"external": {"../yolo": ["a.json"]}}, r"'\.\./yolo' cannot name a variant"),
        ({"external": {"yolo": []}}, "study setting 'external.yolo'"),
        ({"traded": {"cut": {"train.lr": 1e-3}}}, "traded 'cut' cannot change 'train.lr' without a training"),
        ({"traded": {"cut": {"imgsz": 64}}}, "traded 'cut' changes nothing"),
        ({"traded": {"cut": {"model.decoder_layers": 4}}}, "traded 'cut': the model has 3 decoder layers"),
        ({"traded": {"a": {"imgsz": 96}, "b": {"imgsz": [96, 96]}}}, "variants 'a' and 'b' are the same"),
        ({"traded": {"cut": {"imgsz": 65}}}, "control 'cut': .*32"),
        ({"traded": {"base": {"imgsz": 96}}}, "two variants are called 'base'"),
        ({"variants": {"A": EXTRADW, "a": {"loss.box": "nwd"}}}, "'A' and 'a' differ in capitals alone"),
        ({"variants": {"a": EXTRADW}, "seeds": 10**12}, "more than 40 seeds"),
        ({"variants": {"a": EXTRADW}, "seeds": [1, 1]}, "each once"),
        ({"variants": {"a": EXTRADW}, "controls": ["longr"]}, "did you mean 'longer'"),
        ({"variants": {"a": EXTRADW}, "variant": 1}, "no setting 'variant'; did you mean 'variants'"),
        ({"variants": {"a": EXTRADW}, "weights": "auto"}, "weights 'auto' depend on the network"),
        ({"variants": {"a": {**EXTRADW, "weights": "auto"}}}, "variant 'a': weights 'auto' depend"),
        ({}, "something to compare"),
    ],
)
def test_mistakes_give_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(DetrofitError, match=line) as caught:
        load_study({**BASE, **values})
    assert "\n" not in str(caught.value)


def test_a_base_that_runs_fewer_layers_than_it_has_is_cut_from_those_that_it_runs() -> None:
    base = {**BASE, "model": {"name": "rtdetr-n", "decoder_layers": 3, "eval_decoder_layers": 2}}
    points = {"queries": {"model.num_queries": 10}, "one": {"model.decoder_layers": 1}}
    points["all"] = {"model.decoder_layers": 3}
    study = load_study({**base, "traded": points})
    frames = {each.name: each.described["model"] for each in study.traded}
    assert {name: frame["decoder_layers"] for name, frame in frames.items()} == {"queries": 2, "one": 1, "all": 3}
    assert all(frame["eval_decoder_layers"] is None for frame in frames.values())
    assert {each.name: each.changes for each in study.traded} == points
    with pytest.raises(DetrofitError, match=r"traded .same. changes nothing"):
        load_study({**base, "traded": {"same": {"model.decoder_layers": 2}}})


def test_two_variants_of_one_name_are_found_in_yaml_and_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("model: rtdetr-n\nvariants:\n  a: {loss.box: nwd}\n  a: {loss.box: siou}\n")
    with pytest.raises(DetrofitError, match="two variants are called 'a'"):
        read_study(file)
    with pytest.raises(DetrofitError, match="two variants are called 'a'"):
        parse_variants(["a: {loss.box: nwd}", "a: {loss.box: siou}"], {})
    assert parse_variants(["a: {loss.box: nwd}"], {"b": {}}) == {"b": {}, "a": {"loss.box": "nwd"}}
    assert parse_external(["yolo=a.json,b.json"]) == {"yolo": ["a.json", "b.json"]}
    assert parse_external(["yolo=a.json"], {"b": ["c.json"]}) == {"b": ["c.json"], "yolo": ["a.json"]}
    with pytest.raises(DetrofitError, match="two variants are called 'yolo'"):
        parse_external(["yolo=a.json"], {"yolo": ["c.json"]})


def test_an_empty_section_of_a_file_takes_what_the_command_line_adds() -> None:
    assert parse_variants(["a: {loss.box: nwd}"], None) == {"a": {"loss.box": "nwd"}}
    for parse, text in ((parse_variants, "a: {loss.box: nwd}"), (parse_external, "yolo=a.json")):
        with pytest.raises(DetrofitError, match=r"= \['x'\] must map names"):
            parse([text], ["x"])


def test_what_a_variant_says_of_a_slot_comes_after_what_the_base_says_of_several() -> None:
    swapped = {"backbone.stage4.block": "extradw", "backbone.stage[3,4].block": "basic"}
    study = load_study({**BASE, "retrofit": swapped, "variants": {"a": EXTRADW}})
    assert list(study.variants[1].experiment.retrofit) == ["backbone.stage[3,4].block", "backbone.stage4.block"]
    assert study.variants[1].described["slots"] != study.base.described["slots"]
