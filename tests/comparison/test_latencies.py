from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detrofit.comparison.latencies import installed_runtimes, measurement_identity, read_bench
from detrofit.comparison.study import load_study
from detrofit.errors import DetrofitError

NAMES = ["base", "base, 45 epochs", "extradw"]


def bench_entry(file: str, milliseconds: float) -> dict[str, Any]:
    spread = {"median": milliseconds, "low": milliseconds - 1, "high": milliseconds + 1, "p90": milliseconds + 2}
    steps = dict.fromkeys(("pre", "model", "post", "total"), spread)
    own = {"file": file, "megabytes": 4.0, "input_size": [64, 64], "open_ms": 1.0, "pictures_per_second": 1.0}
    return {**own, "steps": steps, "ratio": {key: value / 10 for key, value in spread.items()}}


def write_bench(file: Path, *entries: dict[str, Any]) -> Path:
    file.write_text(json.dumps({"rounds": 50, "machine": {"processor": "a board"}, "files": entries}))
    return file


def test_a_bench_file_names_the_variants_by_its_files(tmp_path: Path) -> None:
    entries = [bench_entry("copied/base.onnx", 10), bench_entry("C:\\copied\\base, 45 epochs.onnx", 12)]
    measured = read_bench(write_bench(tmp_path / "board.json", *entries, bench_entry("extradw.xml", 8)), NAMES)
    assert (measured["source"], measured["machine"]) == ("board.json", {"processor": "a board"})
    found = [(each["variant"], each["runtime"], each["total"]["median"]) for each in measured["files"]]
    assert found == [("base", "onnxruntime", 10), ("base, 45 epochs", "onnxruntime", 12), ("extradw", "openvino", 8)]
    ratios = [each["ratio"] and each["ratio"]["median"] for each in measured["files"]]
    assert ratios == [1.0, 1.2, None], "another runtime was not timed in turns with this base"


def test_ratios_to_anything_but_the_base_are_left_out(tmp_path: Path) -> None:
    entries = [bench_entry("extradw.onnx", 8), bench_entry("base.onnx", 10)]
    measured = read_bench(write_bench(tmp_path / "board.json", *entries), NAMES)
    assert [each["ratio"] for each in measured["files"]] == [None, None]


def test_files_that_are_no_variant_or_no_bench_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"'best\.onnx' is no variant of this study; .* base, .*, extradw"):
        read_bench(write_bench(tmp_path / "board.json", bench_entry("best.onnx", 8)), NAMES)
    for content in ("{", "[]", '{"files": [{}]}'):
        (tmp_path / "broken.json").write_text(content)
        with pytest.raises(DetrofitError, match=r"broken\.json is no file of `detrofit bench --out`"):
            read_bench(tmp_path / "broken.json", NAMES)


def test_the_same_models_are_not_timed_again() -> None:
    def identity(data: str, **changes: Any) -> str:
        values = {"model": "rtdetr-n", "data": data, "imgsz": 64, "variants": {"a": {"loss.box": "nwd"}}, **changes}
        return measurement_identity(load_study(values).variants, ["cat"], rounds=50)

    assert identity("here") == identity("elsewhere", train={"epochs": 3}, seeds=8)
    assert identity("here") != identity("here", imgsz=96)
    assert identity("here") != identity("here", variants={"a": {"backbone.stage4.block": "extradw"}})


def test_torch_is_always_among_the_runtimes() -> None:
    assert installed_runtimes()[0] == "torch"
