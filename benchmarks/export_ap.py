"""AP of trained models in every format and precision against torch's, and the speed that INT8 brings.

    python benchmarks/export_ap.py --data DATA MODEL.safetensors [MODEL.safetensors ...] [--out export_ap.json]

Each model is exported as the `export` command does it, scored on the validation split, with INT8 calibrated on the
training split. Prints a table in Markdown, writes the parity records, and ends with code 1 where AP is past the bars:
0.1 points in float32, 0.3 in half precision, 0.5 as INT8.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from detrofit.deployment.export import LIMITS, SUFFIXES, Exported, Format, export_file
from detrofit.deployment.machine import describe_machine
from detrofit.deployment.onnx import ExportOptions
from detrofit.runtime.exported import Precision


def export_unjudged(file: Path, format_: Format, precision: Precision, data: Path) -> Exported:
    """Export without a limit, so that what is past it shows its numbers too."""
    limits = replace(LIMITS[precision], matched_share=None, ap_drop=1.0)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / f"model{SUFFIXES[format_]}"
        return export_file(file, format_, ExportOptions(precision=precision), out=out, data=data, limits=limits)


def row_of(file: Path, format_: Format, precision: Precision, data: Path) -> dict[str, Any]:
    """The record of one export, with what it lost in points of AP."""
    exported = export_unjudged(file, format_, precision, data)
    parity = exported.parity
    assert parity.ap_torch is not None and parity.ap_file is not None
    lost = 100 * (parity.ap_torch - parity.ap_file)
    allowed = 100 * LIMITS[precision].ap_drop
    passed = abs(lost) <= allowed if precision == "float32" else lost <= allowed
    speed = exported.speed.to_dict() if exported.speed else None
    facts = {"model": file.name, "format": format_, "precision": precision, "lost_points": lost, "passed": passed}
    return {**facts, **parity.to_dict(), "speed": speed}


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| model | format | precision | AP | torch | matched | time of float32's |", "| - " * 7 + "|"]
    for row in rows:
        speed = row["speed"]["of_float32"] if row["speed"] else {}
        times = ", ".join(f"{name} {each['median']:.2f}" for name, each in speed.items())
        lines.append(
            f"| {row['model']} | {row['format']} | {row['precision']} | {100 * row['ap_file']:.2f} | "
            f"{100 * row['ap_torch']:.2f} | {row['matched_share']:.1%} | {times} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precisions", nargs="+", choices=list(LIMITS), default=list(LIMITS))
    parser.add_argument("--out", type=Path, default=Path("export_ap.json"))
    arguments = parser.parse_args()
    formats: tuple[Format, ...] = ("onnx", "openvino")
    rows = [
        row_of(file, format_, precision, arguments.data)
        for file in arguments.files
        for format_ in formats
        for precision in arguments.precisions
    ]
    arguments.out.write_text(json.dumps({"machine": describe_machine(), "rows": rows}, indent=1) + "\n")
    print(markdown(rows))
    return 0 if all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
