"""How long `import detrofit` and `detrofit --help` take from a cold interpreter (goal: 0.4 s).

    python benchmarks/startup.py [--repeats 20]

Each is run in a new process; the first run, which may have to compile or read from the disk, is not counted.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time

GOAL = 0.4
CASES = {
    "python -c pass": ["-c", "pass"],
    "import detrofit": ["-c", "import detrofit"],
    "detrofit --help": ["-m", "detrofit", "--help"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20, help="counted runs of each (default 20)")
    repeats = parser.parse_args().repeats
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}, {datetime.date.today()}")
    print(f"\n| seconds of {repeats} runs | median | slowest | goal |\n| --- | --- | --- | --- |")
    for name, arguments in CASES.items():
        seconds = [measure(arguments) for _ in range(repeats + 1)][1:]
        print(f"| {name} | {statistics.median(seconds):.3f} | {max(seconds):.3f} | {GOAL} |")


def measure(arguments: list[str]) -> float:
    """Seconds from the start to the end of a Python process with `arguments`."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
