"""What the tests of commands type again and again."""

from __future__ import annotations

import pytest

from detrofit.cli import main

TINY = ["--imgsz", "64", "--epochs", "1", "--batch", "4", "--workers", "0", "--device", "cpu"]  # a training of seconds


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line about a user's mistake."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ")
    return line
