"""What pretrained weights are worth after a swap: the share that is kept, and the AP before any further training.

    python benchmarks/kept_weights.py --file MODEL.safetensors --data DATA

FILE is a stock model trained on DATA. Its weights go into variants of the same model by name, as `--weights` does it,
and each variant is scored on the validation split as it is. The shares kept of `rtdetr-r18` need no file: they follow
from names and shapes.
"""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path
from typing import Any

from usual_swaps import swap_text

from detrofit.config.models import build
from detrofit.data.index import DetectionIndex
from detrofit.data.open import open_dataset
from detrofit.files import write_file
from detrofit.model.detector import RTDETR
from detrofit.training.devices import Devices
from detrofit.training.validate import validate
from detrofit.weights.model_file import load_model, read_info
from detrofit.weights.transfer import transfer
from detrofit.weights.transfer_report import transfer_json

TABLE = Path(__file__).parents[1] / "docs" / "tables" / "kept_weights.md"
PUBLISHED = "rtdetr-r18"
SWAPS: tuple[dict[str, Any], ...] = (
    {},
    {"loss.box": "nwd"},
    {"backbone.stage4.attention": "se"},
    {"encoder.fusion_block": "repncspelan4"},
    {"encoder.fusion": "bifpn"},
    {"backbone.stage4.downsample": "spd"},
    {"backbone.stage4.conv": "extradw"},
    {"backbone.stage4.block": "extradw"},
    {"backbone.stage[3,4].block": "extradw"},
    {"backbone.stage[1,2,3,4].block": "extradw"},
    {"backbone": "mobilenetv4"},
)


def shares_kept(model: RTDETR, stock: RTDETR) -> tuple[float, float]:
    """Put the weights of `stock` into `model`; the shares of its parameters and operations that they cover."""
    names = [str(number) for number in range(model.num_classes)]
    content = transfer_json(model, transfer(model, stock.state_dict(), names, names), (640, 640))
    return content["shares_of_parameters"]["kept"], content["shares_of_flops"]["kept"]


def score(model: RTDETR, index: DetectionIndex, size: tuple[int, int]) -> float:
    """AP of a model as it is."""
    devices = Devices("cpu")
    options = {"batch": 8, "workers": 0, "max_detections": model.frame.max_detections}
    evaluation, _ = validate(devices.place(model).eval(), index, size, devices, **options)
    return evaluation.summary["AP"]


def rows(file: Path, index: DetectionIndex) -> list[str]:
    """A line of the table for each swap."""
    info, trained = read_info(file), load_model(file)
    published = build(PUBLISHED, num_classes=80)
    lines = []
    for swap in SWAPS:
        parameters, operations = shares_kept(build(PUBLISHED, swap, num_classes=80), published)
        variant = build(info.name, swap, num_classes=len(info.class_names))
        own_parameters, _ = shares_kept(variant, trained)
        ap = score(variant, index, info.input_size)
        named = f"`{swap_text(swap)}`" if swap else "none"
        lines.append(f"| {named} | {parameters:.1%} | {operations:.1%} | {own_parameters:.1%} | {ap:.3f} |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=TABLE)
    arguments = parser.parse_args()
    info = read_info(arguments.file)
    lines = [
        f"Made by `benchmarks/kept_weights.py`, {datetime.date.today()}. AP on the validation split, before any "
        f"further training, of a `{info.name}` that had trained {info.trained['epochs']} epochs on "
        f"{info.trained['data']} at {info.input_size[0]} pixels; one model, one seed for what is fresh.",
        "",
        f"| swap | parameters kept, {PUBLISHED} | operations kept, {PUBLISHED} | parameters kept, {info.name} | AP |",
        "| --- | --- | --- | --- | --- |",
        *rows(arguments.file, open_dataset(arguments.data).split("val")),
    ]
    write_file(arguments.out, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
