"""The load script in its smallest form: no error, flat memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.onnx_by_hand import describe, write_onnx_by_hand

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "serve_load.py"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc, which is not here")
def test_eight_clients_get_no_error_and_memory_stays_flat(tmp_path: Path) -> None:
    model = write_onnx_by_hand(tmp_path / "by hand.onnx", describe().model_dump_json())
    command = [sys.executable, str(SCRIPT), str(model), "--seconds", "5", "--out", str(tmp_path / "load.json")]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    measured = json.loads((tmp_path / "load.json").read_text())
    assert set(measured["statuses"]) == {"200"} and measured["clients"] == 8
    assert measured["statuses"]["200"] >= 8 and measured["milliseconds"]["p99"] >= measured["milliseconds"]["median"]
