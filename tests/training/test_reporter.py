from __future__ import annotations

import io

from rich.console import Console

from detrofit.training.reporter import Reporter


def test_a_long_line_stays_one_line_in_a_log_and_brackets_stay_text():
    log = io.StringIO()
    line = "run folder " + "x" * 200 + " [bold]"
    with Reporter(10, 0, visible=True, console=Console(file=log, width=80)) as reporter:
        reporter.say(line)
        reporter.step(0, 1, 1.0)
    assert log.getvalue() == line + "\n"


def test_other_processes_are_silent():
    log = io.StringIO()
    with Reporter(10, 0, visible=False, console=Console(file=log)) as reporter:
        reporter.say("something")
        reporter.step(0, 1, 1.0)
    assert log.getvalue() == ""
