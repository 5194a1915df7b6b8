"""Where an exported model's time goes on OpenVINO, by its own counters: stem, stages, attention, neck, decoder.

    python benchmarks/latency_shares.py FILE.safetensors [--imgsz 256] [--rounds 100] [--threads 2]

What a graft can save is at most the share of the slots that it may fill. Prints a table in Markdown; float32, batch 1.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from openvino import ProfilingInfo

from detrofit.deployment.export import write_exported
from detrofit.deployment.onnx import ExportOptions
from detrofit.runtime.openvino_backend import openvino_core
from detrofit.weights.model_file import read_info

WARM_UP = 10
PLACES = {
    "stem": r"/model/backbone/stem/",
    **{f"stage {number}": rf"/model/backbone/stage{number}/" for number in (1, 2, 3, 4)},
    "attention and projections of the encoder": r"/model/encoder/(attention|stride\d+)/",
    "neck": r"/model/encoder/fusion/",
    "query selection": r"/model/decoder/query_selection/",
    "decoder layers": r"/model/decoder/(layer\d+|query_position|box_head|score_head)",
    "projections of the decoder": r"/model/decoder/stride\d+/",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--imgsz", type=int)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    info = read_info(arguments.file)
    size = info.input_size if arguments.imgsz is None else (arguments.imgsz, arguments.imgsz)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.xml"
        write_exported(target, file=arguments.file, format_="openvino", options=ExportOptions(size))
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True,
                    "INFERENCE_NUM_THREADS": arguments.threads}  # fmt: skip
        request = openvino_core().compile_model(target, "CPU", settings).create_infer_request()
    images = np.random.default_rng(0).random((1, 3, *size), np.float32)
    rounds = []
    for _ in range(WARM_UP + arguments.rounds):
        request.infer([images], share_inputs=True)
        rounds.append(_milliseconds(request))
    medians = {place: float(np.median([each[place] for each in rounds[WARM_UP:]])) for place in (*PLACES, "rest")}
    total = sum(medians.values())
    print("| where | ms | share |\n| - | - | - |")
    for place, own in medians.items():
        print(f"| {place} | {own:.2f} | {100 * own / total:.0f} % |")
    print(f"\n{arguments.file.name}, {size[0]}x{size[1]}, {total:.2f} ms in all, {arguments.threads} threads")


def _milliseconds(request: object) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in request.get_profiling_info():  # type: ignore[attr-defined]
        if each.status == ProfilingInfo.Status.EXECUTED:
            place = next((place for place, names in PLACES.items() if re.search(names, each.node_name)), "rest")
            found[place] += 1e3 * each.real_time.total_seconds()
    return found


if __name__ == "__main__":
    main()
