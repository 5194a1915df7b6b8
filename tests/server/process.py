"""The server as a person starts it: a process of its own, with a model that needs no torch."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.runtime.onnx_by_hand import describe, write_onnx_by_hand


class Served(NamedTuple):
    """A running server: its process, its address, and the lines that it wrote after that of its address."""

    process: subprocess.Popen[str]
    address: str
    lines: list[str]


@contextmanager
def served(folder: Path, *options: str, **environment: str) -> Iterator[Served]:
    """`detrofit serve` of a model that finds one box, whose score is the brightness of the picture."""
    file = write_onnx_by_hand(folder / "by hand.onnx", describe().model_dump_json())
    command = [sys.executable, "-m", "detrofit", "serve", str(file), "--port", "0", "--device", "cpu", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )
    assert process.stdout is not None
    timer = threading.Timer(60, process.kill)
    timer.start()
    try:
        lines = []
        while " is served on " not in (line := process.stdout.readline()):
            lines.append(line)
            if not line:
                pytest.fail(f"the server did not start: {''.join(lines)}")
        rest: list[str] = []
        output = process.stdout
        reader = threading.Thread(target=lambda: rest.extend(output))
        reader.start()
        timer.cancel()
        yield Served(process, line.split(" is served on ")[1].split()[0], rest)
    finally:
        timer.cancel()
        process.terminate()
        process.wait(30)
        reader.join()
        process.stdout.close()
