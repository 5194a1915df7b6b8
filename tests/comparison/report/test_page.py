from __future__ import annotations

import re
from typing import Any

import pytest

from detrofit.comparison.analysis import analyse
from detrofit.comparison.report.changes import differing
from detrofit.comparison.report.content import Content, interval_words, signed
from detrofit.comparison.report.page import study_page
from detrofit.comparison.report.pareto_chart import cost_axes
from detrofit.comparison.report.verdicts import lead
from detrofit.pages.render import render_page
from tests.comparison.report_cases import BASE, EVIL, LONG, NO_CHARTS, WHOLE, Drawn, drawn_study, fail


def page_of(results: dict[str, Any]) -> str:
    return render_page(study_page(Content(results), NO_CHARTS))


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<body>")[2].partition("<script>")[0]).split())


def test_what_must_be_known_stands_first_and_the_rest_in_order() -> None:
    results = fail(drawn_study(epochs=2), "extradw", 3, "the loss was not finite <here>")
    results["notes"] = ["no objects of 'owl'"]
    for run in results["runs"]:
        if run["variant"] == "extradw, nwd":
            run["start"] = {**run["start"], "lr": 1e-3}
    text = text_of(page_of(analyse(results)))
    order = [
        "Read first", "starnet: differs in settings, not in slots alone: train.lr", "yolo11n: was trained elsewhere",
        "no objects of &#39;owl&#39;", "▲ better", "By threshold, size and class", "small objects", "Costs",
        "What each variant changes", "Runs and compute", "failed: the loss was not finite &lt;here&gt;",
    ]  # fmt: skip
    places = [text.rindex(words) for words in order]
    assert places == sorted(places)
    assert "&#39;extradw, nwd&#39;: peak learning rate 0.001, the base 0.0005." in text
    assert "&#39;extradw&#39; failed with seed 3" in text
    assert "36 runs, 1 of them failed" in text


def test_the_lead_counts_verdicts_and_leaves_controls_out() -> None:
    content = Content(drawn_study(epochs=2))
    verdicts = [each["verdict"]["word"] for each in content.comparisons if each["kind"] != "control"]
    assert lead(content).startswith("Of 4 compared, ")
    assert f"{verdicts.count('better')} are better than the base" in lead(content)
    assert lead(Content(drawn_study((BASE, Drawn("one", 3.0)), epochs=0))) == "one is better than the base."


@pytest.mark.parametrize(
    "results",
    [
        pytest.param(lambda: drawn_study(WHOLE[:2], seeds=1), id="one seed"),
        pytest.param(lambda: drawn_study((BASE, Drawn("x", kind="external")), epochs=0), id="no curves, no times"),
        pytest.param(lambda: fail(drawn_study(WHOLE[:2], seeds=1), "extradw", 0, "boom"), id="nothing compared"),
        pytest.param(lambda: fail(drawn_study(WHOLE[:2], seeds=1), "base", 0, "boom"), id="no base"),
        pytest.param(lambda: drawn_study((BASE, Drawn(LONG)), seeds=2, name=LONG), id="long names"),
        pytest.param(lambda: drawn_study(classes=[f"class {i}" for i in range(80)], epochs=1), id="80 classes"),
    ],
)
def test_every_study_has_a_page(results: Any) -> None:
    drawn = results()
    text = text_of(page_of(drawn))
    assert all(line["name"] in text for line in drawn["variants"])
    assert all(name in text for name in drawn["data"]["classes"] if drawn["comparisons"])


def test_names_are_never_markup() -> None:
    results = drawn_study(
        (BASE, Drawn(EVIL, changes={EVIL: EVIL})), seeds=2, classes=[EVIL, "b"], name=EVIL, epochs=1
    )  # fmt: skip
    results = fail({**results, "notes": [EVIL], "machine": EVIL}, EVIL, 1, EVIL)
    page = page_of(results)
    assert "<img" not in page and page.count("</script>") == 1


def test_a_diff_names_what_differs_also_where_one_has_none() -> None:
    base = {"train": {"lr": 1, "epochs": 2}, "slots": {"backbone.stage4.block": {"part": "basic", "at": {"x": 1}}}}
    other = {"train": {"lr": 3, "epochs": 2}, "slots": {"backbone.stage4.block": {"part": "dw", "expand": 2}}}
    assert differing(base, other) == [
        ("train.lr", 1, 3),
        ("backbone.stage4.block.part", "basic", "dw"),
        ("backbone.stage4.block.at.x", 1, None),
        ("backbone.stage4.block.expand", None, 2),
    ]


def test_there_is_a_plot_for_each_cost_that_two_variants_have() -> None:
    axes = [axis.name for axis in cost_axes(Content(drawn_study(epochs=1)))]
    assert axes == [*(f"latency-study-{name}" for name in ("torch", "onnxruntime", "openvino")), "gflops", "parameters"]
    assert cost_axes(Content(drawn_study((BASE, Drawn("x", kind="external")), epochs=1))) == []


@pytest.mark.parametrize(("value", "text"), [(1.234, "+1.23"), (-1.0, "−1.00"), (-0.001, "0.00"), (0.0, "0.00")])
def test_signs(value: float, text: str) -> None:
    assert signed(value) == text
    assert interval_words([value, value]) == f"{text} to {text}"


def test_costs_of_runs_under_other_conditions_are_said_not_to_compare() -> None:
    results = drawn_study(WHOLE[:2], seeds=2, epochs=0)
    assert "do not compare" not in text_of(page_of(results))
    results["runs"][0]["machine"] = {**results["runs"][0]["machine"], "threads": 2}
    text = text_of(page_of(analyse(results)))
    assert "in 2 ways, whose times and memory do not compare: drawn, cpu, 1 thread; drawn, cpu, 2 threads." in text


def test_a_measurement_in_which_nothing_was_timed_leaves_its_reasons() -> None:
    results = drawn_study(WHOLE[:2], seeds=2, epochs=0)
    results["latency"] = [{**results["latency"][0], "files": [], "notes": ["nothing was timed with torch: no room"]}]
    assert "nothing was timed with torch: no room." in text_of(page_of(results))


def test_the_verdict_table_has_the_ratios_of_the_same_rounds() -> None:
    results = drawn_study(WHOLE[:2], seeds=2, epochs=0)
    for file in results["latency"][0]["files"]:
        if file["variant"] == "extradw":
            file["ratio"] = {**file["ratio"], "median": 0.456}  # of rounds, where the machine was slow in some
    assert "× 0.46" in text_of(page_of(results))
