"""How much memory a process has needed at most."""

from __future__ import annotations

import re
from pathlib import Path


def peak_mib() -> float:
    """MiB of memory that this process has held at most; Linux only.

    Not `resource.getrusage`: its peak is inherited from the process that started this one.
    """
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, flags=re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024
