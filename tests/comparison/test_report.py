from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from detrofit.comparison.analysis import analyse
from detrofit.comparison.jobs import pack_resamples, unpack_resamples
from detrofit.comparison.report import read_results, table_csv, table_tex, write_reports
from detrofit.comparison.report_html import report_html
from detrofit.errors import DetrofitError
from tests.comparison.records import make_results

SCORES = {"base": 0.40, "good_one": 0.44, "bad": 0.35, "yolo": 0.41}
KINDS = {"yolo": "external"}


def test_verdicts_follow_from_the_runs_alone() -> None:
    results = analyse(make_results(SCORES, seeds=8, kinds=KINDS))
    words = {each["name"]: each["verdict"]["word"] for each in results["comparisons"]}
    assert (words["good_one"], words["bad"]) == ("better", "worse")
    good = results["comparisons"][0]["metrics"]["AP"]
    assert good["difference"] == pytest.approx(4.0, abs=0.3)
    assert good["interval"][0] < good["difference"] < good["interval"][1]
    assert len(good["per_seed"]) == 8


def test_a_failed_run_takes_its_seed_out_of_the_comparison_and_is_shown() -> None:
    results = make_results({"base": 0.4, "other": 0.42}, seeds=4)
    failed = next(run for run in results["runs"] if (run["variant"], run["seed"]) == ("other", 2))
    failed |= {"status": "failed", "error": "the loss was not finite <here>"}
    done = analyse(results)
    assert done["comparisons"][0]["seeds"] == [0, 1, 3]
    assert done["variants"][1]["failed"] == [{"seed": 2, "error": "the loss was not finite <here>"}]
    assert "the loss was not finite &lt;here&gt;" in report_html([done])


def test_the_report_is_one_file_that_asks_for_nothing(tmp_path: Path) -> None:
    results = analyse(make_results(SCORES, kinds=KINDS))
    write_reports([results], tmp_path)
    page = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"(src|href)=|url\(|@import|<script", page), "the page must not load anything"
    assert page.index("corrected interval") < page.index("<svg"), "the verdict comes first"
    assert "drawn &lt;study&gt;" in page and "trained elsewhere" in page and "prefers-color-scheme" in page
    tags = Tags()
    tags.feed(page)
    assert tags.open == [], "every element is closed"
    assert tags.marks == 3 + 3 + 4 + 4, "three differences, points by latency (of ours) and compute, learning curves"
    assert read_results(tmp_path)["comparisons"] == results["comparisons"], "results alone rebuild the report"


class Tags(HTMLParser):
    """Which elements are open, and how many marks the figures have."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.marks = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.marks += "mark" in (dict(attrs).get("class") or "").split()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.marks += "mark" in (dict(attrs).get("class") or "").split()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_tables_have_a_row_a_variant() -> None:
    results = analyse(make_results(SCORES, kinds=KINDS))
    rows = list(csv.DictReader(io.StringIO(table_csv([results]))))
    assert [row["variant"] for row in rows] == list(SCORES)
    assert float(rows[1]["AP_low"]) < float(rows[1]["AP_difference"]) < float(rows[1]["AP_high"])
    table = table_tex([results])
    assert r"good\_one" in table and r"\toprule" in table and table.count(r"\\") == 1 + len(SCORES)


def test_studies_are_joined(tmp_path: Path) -> None:
    studies = [analyse(make_results(SCORES)), analyse(make_results({"base": 0.5, "other": 0.5}))]
    write_reports(studies, tmp_path)
    assert (tmp_path / "report.html").read_text("utf-8").count("<h1>") == 2
    assert not (tmp_path / "results.json").exists()


def test_files_of_another_version_or_cut_off_are_named(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with pytest.raises(DetrofitError, match="holds no study"):
        read_results(tmp_path)
    content = json.dumps(make_results(SCORES))
    file.write_text(content[: len(content) // 2])
    with pytest.raises(DetrofitError, match=r"results\.json is cut off"):
        read_results(tmp_path)
    file.write_text(json.dumps({**make_results(SCORES), "detrofit": "0.0.1"}))
    with pytest.raises(DetrofitError, match=r"was written by detrofit 0\.0\.1"):
        read_results(tmp_path)


def test_resamples_are_kept_finer_than_they_are_uncertain() -> None:
    values = np.array([0.0, 0.123456, 1.0, np.nan])
    packed = pack_resamples({"AP": values})["AP"]
    np.testing.assert_allclose(unpack_resamples(packed), values, atol=1e-5)
