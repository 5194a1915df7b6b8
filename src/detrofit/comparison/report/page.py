"""The report as a page: what must be known first, then verdicts, then everything they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from detrofit.comparison.report.changes import change_blocks
from detrofit.comparison.report.content import Content
from detrofit.comparison.report.costs import cost_blocks
from detrofit.comparison.report.curves import curve_chart
from detrofit.comparison.report.forest import forest_chart
from detrofit.comparison.report.metrics import metric_blocks
from detrofit.comparison.report.pareto_chart import READING, cost_axes, pareto_chart
from detrofit.comparison.report.runs import run_blocks
from detrofit.comparison.report.verdicts import facts, lead, read_first, verdict_blocks
from detrofit.pages.blocks import Block, Page, Section, Text
from detrofit.pages.charts import Chart, Pair

KIND = "Detrofit study"


@dataclass(frozen=True)
class StudyCharts:
    """The figures of a study that have something to show."""

    forest: Chart | None
    pareto: Sequence[Chart]
    curves: Chart | None

    @property
    def all(self) -> list[Chart]:
        """In the order of the page."""
        return [chart for chart in (self.forest, *self.pareto, self.curves) if chart is not None]


def study_charts(content: Content) -> StudyCharts:
    """Draw every figure, once."""
    pareto = [pareto_chart(content, axis) for axis in cost_axes(content)]
    return StudyCharts(forest_chart(content), [chart for chart in pareto if chart], curve_chart(content))


def _pareto_blocks(charts: Sequence[Chart]) -> list[Block]:
    """Times large, what can be counted without a device small."""
    timed = [chart for chart in charts if "latency" in chart.name]
    counted = [chart for chart in charts if chart not in timed]
    return [*timed, *([Pair(counted)] if counted else []), Text(READING, note=True)] if charts else []


def study_page(content: Content, charts: StudyCharts, pictures: Sequence[Block] = ()) -> Page:
    """The whole report."""
    sections = [
        Section("Verdicts", verdict_blocks(content)),
        Section("Differences to the base", _those(charts.forest)),
        Section("Accuracy against cost", _pareto_blocks(charts.pareto)),
        Section("Learning curves", _those(charts.curves)),
        Section("By threshold, size and class", metric_blocks(content)),
        Section("Costs", cost_blocks(content)),
        Section("Pictures on which variants differ most", pictures),
        Section("What each variant changes", change_blocks(content)),
        Section("Runs and compute", run_blocks(content)),
    ]
    series = tuple(content.series.values())
    return Page(content.results["study"], KIND, lead(content), sections, series, [*read_first(content), facts(content)])


def _those(chart: Chart | None) -> list[Block]:
    return [] if chart is None else [chart]
