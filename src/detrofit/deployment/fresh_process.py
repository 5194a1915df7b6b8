"""The first picture of a model file in a process of its own: how long it takes from nothing, and what memory it needs.

Run as a module, it is that process: what to open as JSON on the command line, the picture on standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from detrofit.deployment.subjects import Subject
from detrofit.errors import DetrofitError


@dataclass(frozen=True)
class FirstPicture:
    """From the start of a new process to the boxes of its first picture in milliseconds, files in the system's cache;
    and the most memory that it had in megabytes, None where the system does not tell."""

    cold_start_ms: float
    peak_memory_mb: float | None


def first_picture(subject: Subject, picture: bytes, device: str | None, threads: int | None) -> FirstPicture:
    """Start a process that opens the file, runs one picture and ends; DetrofitError if it fails."""
    request = {
        "started": time.time(),
        "file": str(subject.file),
        "half": subject.half,
        "size": subject.size,
        "plugins": [str(plugin) for plugin in subject.plugins],
        "device": device,
        "threads": threads,
    }
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    command = [sys.executable, "-m", "detrofit.deployment.fresh_process", json.dumps(request)]
    done = subprocess.run(command, input=picture, capture_output=True, env=environment, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise DetrofitError(f"a new process cannot run {subject.file}: {' '.join(reason)[:300]}")
    return FirstPicture(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Answer the request of `first_picture`."""
    from detrofit.deployment.machine import peak_memory

    request = json.loads(sys.argv[1])
    subject = Subject(
        "",
        Path(request["file"]),
        request["half"],
        tuple(request["size"]) if request["size"] else None,
        tuple(Path(plugin) for plugin in request["plugins"]),
    )
    subject.detector(request["device"], request["threads"])(sys.stdin.buffer.read())
    cold_start, peak = time.time() - request["started"], peak_memory()
    print(json.dumps({"cold_start_ms": 1e3 * cold_start, "peak_memory_mb": None if peak is None else peak / 1e6}))


if __name__ == "__main__":
    main()
