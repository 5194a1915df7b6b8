"""What the process of one job does: train the candidates of a slot, and leave their state in the graft's folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from detrofit.comparison.lifeline import end_with_parent
from detrofit.errors import DetrofitError
from detrofit.grafting.parallel import read_settings
from detrofit.grafting.training import train_slot
from detrofit.grafting.workshop import open_workshop


def main(file: Path) -> int:
    """Do the job that a JSON file describes; the exit code, and a line where it fails."""
    end_with_parent()
    job = json.loads(file.read_text("utf-8"))
    try:
        workshop = open_workshop(
            Path(job["file"]), Path(job["data"]), Path(job["folder"]), read_settings(job["settings"])
        )
        train_slot(workshop, next(slot for slot in workshop.slots if slot.address == job["slot"]))
    except DetrofitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
