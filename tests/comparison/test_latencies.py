from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detrofit.comparison import latencies
from detrofit.comparison.latencies import (
    are_outdated,
    installed_runtimes,
    measure_latencies,
    measurement_identity,
    read_bench,
)
from detrofit.comparison.study import load_study
from detrofit.deployment.bench_files import write_bench
from detrofit.deployment.latency import STEPS, Benchmark, FileLatency
from detrofit.deployment.turns import Spread
from detrofit.errors import DetrofitError

NAMES = ["base", "base, 45 epochs", "extradw"]


def timed(variant: str, milliseconds: float, runtime: str = "onnxruntime", precision: str = "float32") -> FileLatency:
    spread = Spread(milliseconds, milliseconds - 1, milliseconds + 1, milliseconds + 2)
    return FileLatency(
        file=f"C:\\copied\\{variant}.onnx", variant=variant, runtime=runtime, precision=precision, device="cpu",
        megabytes=4.0, parameters=None, flops=None, input_size=(64, 64), open_ms=1.0,
        cold_start_ms=None, peak_memory_mb=None,
        median=spread.median, low=spread.low, high=spread.high, p90=spread.p90, pictures_per_second=1.0,
        ratio=Spread(*(value / 10 for value in vars(spread).values())), steps=dict.fromkeys(STEPS, spread),
    )  # fmt: skip


def bench_file(folder: Path, *entries: FileLatency, **how: Any) -> Path:
    """A file as `detrofit bench --out` writes it."""
    settings: dict[str, Any] = {"rounds": 50, "warm_up": 2, "batch": 1, "threads": None, **how}
    file = folder / "board.json"
    write_bench(Benchmark(**settings, machine={"processor": "a board"}, files=list(entries)), file)
    return file


def test_a_bench_file_says_which_variant_runtime_and_precision_each_entry_is(tmp_path: Path) -> None:
    entries = [
        timed("base", 10), timed("base, 45 epochs", 12), timed("extradw", 8, "openvino"),
        timed("base", 5, precision="int8"),
    ]  # fmt: skip
    measured = read_bench(bench_file(tmp_path, *entries, batch=4, threads=2), NAMES)
    assert (measured["source"], measured["machine"]) == ("board.json", {"processor": "a board"})
    assert [measured[key] for key in ("rounds", "warm_up", "batch", "threads")] == [50, 2, 4, 2]
    keys = ("variant", "runtime", "precision")
    found = [(*(each[key] for key in keys), each["total"]["median"]) for each in measured["files"]]
    assert found == [
        ("base", "onnxruntime", "float32", 10), ("base, 45 epochs", "onnxruntime", "float32", 12),
        ("extradw", "openvino", "float32", 8), ("base", "onnxruntime", "int8", 5),
    ]  # fmt: skip
    ratios = [each["ratio"] and each["ratio"]["median"] for each in measured["files"]]
    assert ratios == [1.0, 1.2, None, None], "another runtime or precision is not compared with this base"


def test_ratios_to_anything_but_the_base_are_left_out(tmp_path: Path) -> None:
    measured = read_bench(bench_file(tmp_path, timed("extradw", 8), timed("base", 10)), NAMES)
    assert [each["ratio"] for each in measured["files"]] == [None, None]


def test_files_that_are_no_variant_or_no_bench_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"'best' is no variant of this study; .* base, .*, extradw"):
        read_bench(bench_file(tmp_path, timed("best", 8)), NAMES)
    with pytest.raises(DetrofitError, match=r"has 'base' twice with onnxruntime in float32"):
        read_bench(bench_file(tmp_path, timed("base", 8), timed("base", 9)), NAMES)
    for content in ("{", "[]", '{"files": [{}]}', '{"format": 1, "files": [{}], "machine": {}}'):
        (tmp_path / "broken.json").write_text(content)
        with pytest.raises(DetrofitError, match=r"broken\.json is no file of `detrofit bench --out`"):
            read_bench(tmp_path / "broken.json", NAMES)
    newer = bench_file(tmp_path, timed("base", 8))
    newer.write_text(newer.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(DetrofitError, match=r"board\.json has the form 2, and this version reads 1"):
        read_bench(newer, NAMES)


def load(data: str = "here", **changes: Any) -> Any:
    values = {"model": "rtdetr-n", "data": data, "imgsz": 64, "variants": {"a": {"loss.box": "nwd"}}, **changes}
    return load_study(values).variants


def test_the_same_models_are_not_timed_again() -> None:
    def identity(data: str, **changes: Any) -> str:
        return measurement_identity(load(data, **changes), ["cat"], rounds=50)

    assert identity("here") == identity("elsewhere", train={"epochs": 3}, seeds=8)
    assert identity("here") != identity("here", imgsz=96)
    assert identity("here") != identity("here", variants={"a": {"backbone.stage4.block": "extradw"}})


def test_whatever_an_export_or_a_runtime_raises_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(model: Path, variant: Any, runtime: str, trained: bool) -> Path:
        if (variant.name, runtime) == ("a", "onnxruntime"):
            raise TypeError("a part of\none's own")
        return tmp_path / f"{variant.name}.{runtime}"

    def turns(files: dict[str, Path], base: Any, runtime: str, rounds: int) -> Any:
        if runtime == "torch":
            raise MemoryError
        return [{"variant": name, "runtime": runtime} for name in files], {"processor": "here"}

    monkeypatch.setattr(latencies, "_model_file", lambda variant, *rest: tmp_path / variant.name)
    monkeypatch.setattr(latencies, "_exported", export)
    monkeypatch.setattr(latencies, "_time_in_turns", turns)
    monkeypatch.setattr(latencies, "installed_runtimes", lambda: ["torch", "onnxruntime"])
    measured = measure_latencies(load(), {}, ["cat"], tmp_path, 6)
    assert measured["notes"] == [
        "nothing was timed with torch: MemoryError",
        "'a' was not timed with onnxruntime: a part of one's own",
    ]
    assert [each["variant"] for each in measured["files"]] == ["base"]


def test_torch_is_always_among_the_runtimes() -> None:
    assert installed_runtimes()[0] == "torch"


def test_models_of_random_weights_do_not_lie_among_the_trained_ones(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(latencies, "_time_in_turns", lambda files, *rest: ([], {}))
    monkeypatch.setattr(latencies, "installed_runtimes", lambda: ["torch"])
    trained = tmp_path / "best.safetensors"
    trained.write_bytes(b"trained")
    measure_latencies(load(), {"base": trained}, ["cat"], tmp_path / "exports", 6)
    made = {file.relative_to(tmp_path / "exports").as_posix() for file in tmp_path.rglob("exports/**/*.safetensors")}
    assert made == {"base.safetensors", "untrained/a.safetensors"}
    assert not are_outdated({"base": trained, "a": trained}, tmp_path / "exports")
    trained.write_bytes(b"trained longer")
    assert are_outdated({"base": trained}, tmp_path / "exports")
