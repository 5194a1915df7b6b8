from __future__ import annotations

import csv
import io
import re

import pytest

from detrofit.comparison.report.content import Content
from detrofit.comparison.report.tables import escape, escape_markdown, table_csv, table_md, table_tex
from tests.comparison.report_cases import BASE, EVIL, WHOLE, Drawn, drawn_study


@pytest.fixture(scope="module")
def whole() -> Content:
    return Content(drawn_study(epochs=2))


def test_csv_has_a_row_a_variant_with_everything_in_numbers(whole: Content) -> None:
    rows = {row["variant"]: row for row in csv.DictReader(io.StringIO(table_csv(whole)))}
    assert list(rows) == [each.name for each in WHOLE]
    assert (
        float(rows["extradw"]["AP_low"]) < float(rows["extradw"]["AP_difference"]) < float(rows["extradw"]["AP_high"])
    )
    assert rows["starnet"]["verdict"] == "worse" and rows["base"]["verdict"] == ""
    assert float(rows["base"]["latency_study_openvino_ms"]) < float(rows["base"]["latency_study_openvino_ms_p90"])
    assert rows["yolo11n"]["latency_study_torch_ms"] == "", "what was not measured stays empty"


def test_tex_is_one_complete_tabular(whole: Content) -> None:
    table = table_tex(whole)
    head, *rows = [line for line in table.splitlines() if line.endswith(r"\\")]
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", table)
    assert columns and {line.count(" & ") + 1 for line in (head, *rows)} == {len(columns[1])}
    assert [row.split(" & ")[0] for row in rows] == [each.name for each in WHOLE]
    numbers = whole.comparisons[0]["metrics"]["AP"]
    low, high = numbers["interval"]
    assert f"${numbers['difference']:+.1f}$ $[{low:+.1f}, {high:+.1f}]$" in rows[1]
    assert all(each in table for each in (r"\toprule", r"\midrule", r"\bottomrule", r"\end{tabular}"))


def test_tex_sets_any_name_as_it_stands() -> None:
    special = "&%$#_{}\\~^<>|"
    escaped = escape(special)
    assert re.sub(r"\\(?:text\w+\{\}|[&%$#_{}])", "", escaped) == "", "nothing is left bare"
    assert escape('[4cm] "a"') == "{[}4cm] ''a''", "no argument of a line break, no rare glyph"
    table = table_tex(Content(drawn_study((BASE, Drawn(EVIL)), seeds=2, epochs=1)))
    assert len({line.count(" & ") for line in table.splitlines() if line.endswith(r"\\")}) == 1


def test_markdown_says_the_same_in_cells_that_hold() -> None:
    content = Content(drawn_study((BASE, Drawn(EVIL), Drawn("a|b")), seeds=2, epochs=1))
    head, rule, *rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table_md(content).splitlines()]
    assert {len(row) for row in (rule, *rows)} == {len(head)}, "a name makes no column"
    assert [row[0].strip() for row in rows] == [escape_markdown(line["name"]) for line in content.lines]
    numbers = content.comparisons[0]["metrics"]["AP"]
    low, high = numbers["interval"]
    assert f"{numbers['difference']:+.1f} ({low:+.1f} to {high:+.1f})" in rows[1][2]
    assert re.sub(r"\\.", "", escape_markdown("<b>*x*_y_`z`[1](2)|&amp;~\\")) == "bxyz1(2)amp;", (
        "nothing is left to mean more"
    )
