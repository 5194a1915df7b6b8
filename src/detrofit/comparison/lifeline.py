"""A process that ends with the one that started it, on every system: it waits for the end of a pipe that only that one
holds open, and so never goes on training for a study that was killed or a machine that left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

ORPHANED = 3  # exit code


def start_bound(arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Python with these arguments, its output added to `log`; it calls `end_with_parent` first of all."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, *arguments],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,  # Ctrl-C is for the study, which then ends its jobs in order
        )


def end_with_parent() -> None:
    """From now on this process exits when the one that started it has ended, however that came about."""
    threading.Thread(target=_wait_for_the_end, name="lifeline", daemon=True).start()


def _wait_for_the_end() -> None:
    try:
        while os.read(0, 64):  # not sys.stdin: forked processes must find its lock free
            pass
    except OSError:
        return  # no pipe: started by hand
    os._exit(ORPHANED)
