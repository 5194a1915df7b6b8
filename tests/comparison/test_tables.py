from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from detrofit.comparison.analysis import analyse
from detrofit.comparison.runner import Progress
from detrofit.comparison.tables import duration, live_table, print_verdicts, verdict_words
from tests.comparison.records import make_results


def test_names_and_errors_are_printed_as_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    results = make_results({"base": 0.4, "conv[dw] :car:": 0.42}, seeds=3)
    results["runs"][-1] |= {"status": "failed", "error": "cannot write [/data/run]: [red] disk full"}
    print_verdicts(analyse(results))
    printed = capsys.readouterr().out
    assert "conv[dw] :car: seed 2: cannot write [/data/run]: [red] disk full" in printed
    assert printed.count("conv[dw] :car:") == 3, "also in the table and in the warning"


def test_the_live_table_ends_with_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    study = SimpleNamespace(settings=SimpleNamespace(seeds=[0]), variants=[])
    planned: Any = SimpleNamespace(jobs=[], done=frozenset(), study=study)
    before = threading.enumerate()
    with live_table(planned) as show:
        (refresher,) = [each for each in threading.enumerate() if each not in before]
        show(Progress(tmp_path, [], {}))
        refresher.join(30)
        assert not refresher.is_alive(), "nothing runs beside the timing of the models"


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "?"), (59.6, "1 min 00 s"), (3600.0, "1 h 00 min"), (90060.0, "25 h 01 min")]
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("word", "further", "words"),
    [
        ("worse", None, "worse"),
        ("cannot tell", 1, "cannot tell (1 more seed would probably decide)"),
        ("cannot tell", 7, "cannot tell (7 more seeds would probably decide)"),
        ("cannot tell", None, "cannot tell (40 seeds would probably not decide either)"),
    ],
)
def test_a_verdict_says_what_would_decide_it(word: str, further: int | None, words: str) -> None:
    assert verdict_words({"seeds": [0, 1], "verdict": {"word": word, "further_seeds": further}}) == words
