"""Load on a server on this machine: clients that send pictures as fast as they are answered.

    python benchmarks/serve_load.py MODEL_FILE [--clients 8] [--seconds 60] [--picture FILE] [--out load.json]

Starts `detrofit serve MODEL_FILE`, lets the clients run, and prints answers by status, throughput, latency (median,
p90, p99, largest), and the server's memory at the end of each tenth of the time. It ends with code 1 where an answer
was not 200, or where memory grew by more than 10 % from the third tenth to the last. Memory is read from /proc.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

MOST_GROWTH = 1.10


def drawn_picture() -> bytes:
    """A scene of 640 x 480 pixels as a JPEG file; noise where the data room is not installed with its extra."""
    from PIL import Image

    try:
        from detrofit.data.demo_scenes import draw_scene

        pixels = draw_scene(np.random.default_rng(0), 480, 640).picture
    except ModuleNotFoundError:
        pixels = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def start_server(model: Path, options: list[str]) -> tuple[subprocess.Popen[str], int]:
    """The process and its port, once it answers."""
    command = [sys.executable, "-m", "detrofit", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if " is served on http://" in line:
            return process, int(line.split(" is served on http://")[1].split()[0].rsplit(":", 1)[1])
    raise SystemExit("the server did not start")


class Client(threading.Thread):
    """Sends the picture again and again over one connection until `deadline`."""

    def __init__(self, port: int, picture: bytes, deadline: float) -> None:
        super().__init__(daemon=True)
        self.port, self.picture, self.deadline = port, picture, deadline
        self.statuses: Counter[str] = Counter()
        self.milliseconds: list[float] = []

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < self.deadline:
            started = time.perf_counter()
            try:
                connection.request("POST", "/detect", self.picture, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                json.loads(answer.read())
                status = str(answer.status)
            except (OSError, http.client.HTTPException, ValueError) as error:
                connection.close()
                status = type(error).__name__
            self.statuses[status] += 1
            self.milliseconds.append((time.perf_counter() - started) * 1e3)
        connection.close()


def memory_megabytes(process: int) -> float:
    """What a process holds in memory now."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def measure(port: int, process: int, picture: bytes, clients: int, seconds: float) -> dict[str, Any]:
    """All numbers of one run."""
    started = time.monotonic()
    running = [Client(port, picture, started + seconds) for _ in range(clients)]
    for client in running:
        client.start()
    memory = []
    for tenth in range(1, 11):
        time.sleep(max(0.0, started + seconds * tenth / 10 - time.monotonic()))
        memory.append(round(memory_megabytes(process), 1))
    for client in running:
        client.join()
    elapsed = time.monotonic() - started
    statuses = sum((client.statuses for client in running), Counter())
    latencies = sorted(value for client in running for value in client.milliseconds)
    return {
        "clients": clients,
        "seconds": round(elapsed, 1),
        "statuses": dict(statuses),
        "pictures_per_second": round(len(latencies) / elapsed, 1),
        "milliseconds": {
            "median": round(statistics.median(latencies), 1),
            "p90": round(float(np.percentile(latencies, 90)), 1),
            "p99": round(float(np.percentile(latencies, 99)), 1),
            "largest": round(latencies[-1], 1),
        },
        "memory_megabytes": memory,
        "cores": os.cpu_count(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--threads", help="threads of one inference")
    parser.add_argument("--batch", help="pictures that run at once, at most")
    arguments = parser.parse_args()
    picture = arguments.picture.read_bytes() if arguments.picture else drawn_picture()
    named = {"--threads": arguments.threads, "--batch": arguments.batch}
    options = [text for key, value in named.items() if value for text in (key, value)]
    server, port = start_server(arguments.model, options)
    try:
        result = measure(port, server.pid, picture, arguments.clients, arguments.seconds)
    finally:
        server.terminate()
        server.wait(60)
    print(json.dumps(result, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    memory = result["memory_megabytes"]
    wrong = sum(result["statuses"].values()) - result["statuses"].get("200", 0)
    flat = memory[-1] <= MOST_GROWTH * memory[2]
    print(f"{wrong} answers were not 200; memory {'is flat' if flat else 'grew'}: {memory[2]} to {memory[-1]} MB")
    return int(bool(wrong) or not flat)


if __name__ == "__main__":
    sys.exit(main())
