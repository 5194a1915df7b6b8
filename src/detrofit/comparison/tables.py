"""A study in the terminal: its plan, its runs while they run, and its verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from detrofit.comparison.runner import Progress
from detrofit.comparison.statistics import MOST_SEEDS

if TYPE_CHECKING:
    from detrofit.comparison.compare import PlannedStudy

NARROWEST = 100  # below, tables would cut their cells; a terminal wraps the lines instead
# Names and errors may hold what rich takes for markup, as brackets.
_AS_IT_STANDS: dict[str, Any] = {"markup": False, "emoji": False, "highlight": False}


def duration(seconds: float | None) -> str:
    """Hours and minutes, or minutes and seconds."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _wide_console() -> Console:
    """As wide as the terminal, but never too narrow for a table."""
    return Console(width=max(NARROWEST, Console().width), **_AS_IT_STANDS)


def _say(console: Console, line: str) -> None:
    console.print(line, soft_wrap=True)


def print_plan(planned: PlannedStudy, estimated_jobs: int = 0) -> None:
    """What will run and what it can show; with a number of jobs at once also a line a run, with its estimated time."""
    console = _wide_console()
    for note in (*planned.data.notes, *planned.study.notes, *planned.unused):
        _say(console, f"note: {note}")
    for variant in planned.study.variants:
        if variant.changed_settings and variant.kind == "variant":
            _say(console, f"note: '{variant.name}' changes settings, too: {', '.join(variant.changed_settings)}")
    _say(console, planned.reach)
    _say(console, f"{len(planned.jobs)} runs, {len(planned.done)} of them done")
    if estimated_jobs:
        console.print(_estimates(planned, estimated_jobs))


def _estimates(planned: PlannedStudy, at_once: int) -> Group:
    from detrofit.comparison.estimate import estimated_seconds

    table = Table("run", "state", "estimated", box=SIMPLE_HEAD)
    left = [job for job in planned.jobs if job.identity not in planned.done]
    first = {job.variant: job for job in reversed(left)}
    seconds = {name: estimated_seconds(job, at_once) for name, job in first.items()}
    for job in planned.jobs:
        done = job.identity in planned.done
        table.add_row(job.name, "done" if done else "to run", "" if done else duration(seconds[job.variant]))
    total = sum(seconds[job.variant] for job in left)
    return Group(table, f"in all {duration(total / at_once)}, {at_once} at a time")


@contextmanager
def live_table(planned: PlannedStudy) -> Iterator[Callable[[Progress], None]]:
    """What follows the progress given to the function: a table of variants and seeds on a terminal until all runs are
    over, else a line whenever a run ends."""
    console = Console(**_AS_IT_STANDS)
    if not console.is_terminal:
        told = set(planned.done)
        yield lambda progress: _tell_new(console, planned, progress, told)
        return
    with Live(console=console, refresh_per_second=2, transient=False) as live:

        def show(progress: Progress) -> None:
            live.update(_progress_table(planned, progress))
            if not (progress.waiting or progress.running):
                live.stop()  # its thread would disturb the timing of the models

        yield show


def _tell_new(console: Console, planned: PlannedStudy, progress: Progress, told: set[str]) -> None:
    for job in planned.jobs:
        if job.identity in progress.over and job.identity not in told:
            told.add(job.identity)
            _say(console, f"{job.variant}, seed {job.seed}: {progress.state_of(job)}; {_standing(planned, progress)}")


def _progress_table(planned: PlannedStudy, progress: Progress) -> Group:
    seeds = planned.study.settings.seeds
    table = Table("variant", *(f"seed {seed}" for seed in seeds), box=SIMPLE_HEAD)
    states = {(job.variant, job.seed): progress.state_of(job) for job in planned.jobs}
    for variant in planned.study.variants:
        table.add_row(variant.name, *(states[variant.name, seed] for seed in seeds))
    return Group(table, _standing(planned, progress))


def _standing(planned: PlannedStudy, progress: Progress) -> str:
    lost = sum(progress.losses.values())
    again = f", {lost} begun again on another machine" if lost else ""
    running = f"{len(progress.over)} of {len(planned.jobs)} over, {len(progress.running)} running{again}"
    return f"{running}, left {duration(progress.seconds_left())}"


def verdict_words(comparison: dict[str, Any]) -> str:
    """The verdict, and what would decide it."""
    verdict = comparison["verdict"]
    more = verdict["further_seeds"]
    if verdict["word"] != "cannot tell":
        return str(verdict["word"])
    if len(comparison["seeds"]) < 2:
        return "cannot tell (1 seed)"
    return (
        f"cannot tell ({more} more seed{'s' * (more != 1)} would probably decide)"
        if more
        else f"cannot tell ({MOST_SEEDS} seeds would probably not decide either)"
    )


def print_verdicts(results: dict[str, Any]) -> None:
    """The verdict table."""
    table = Table("variant", "AP", "difference", "interval", "verdict", box=SIMPLE_HEAD)
    lines = {line["name"]: line for line in results["variants"]}
    for line in results["variants"][:1]:
        table.add_row(line["name"], "" if line["AP_mean"] is None else f"{line['AP_mean']:.1f}", "", "", "")
    for each in results["comparisons"]:
        low, high = each["verdict"]["interval"]
        difference = each["metrics"]["AP"]["difference"]
        name = each["name"] + (f" ({each['kind']})" if each["kind"] != "variant" else "")
        mean = f"{lines[each['name']]['AP_mean']:.1f}"
        table.add_row(name, mean, f"{difference:+.2f}", f"{low:+.2f} to {high:+.2f}", verdict_words(each))
    console = _wide_console()
    console.print(table)
    for warning in results["warnings"]:
        _say(console, f"warning: {warning}")
    for line in results["variants"]:
        for failure in line["failed"]:
            _say(console, f"failed: {line['name']} seed {failure['seed']}: {failure['error']}")
