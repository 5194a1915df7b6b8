"""The `demo` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="The new folder for data, runs and tables.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the drawn data and of both trainings.")] = 0,
) -> None:
    """Draw a small data set, train the nano model stock and with ExtraDW, and compare them: a few minutes."""
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.training.demo import EPOCHS, IMAGE_SIZE, run_demo

    rows = run_demo(out, seed)
    table = Table("variant", "test AP", "AP50", "parameters", f"GFLOPs at {IMAGE_SIZE}", "training")
    for row in rows:
        table.add_row(
            row.variant,
            f"{row.ap:.3f}",
            f"{row.ap50:.3f}",
            f"{row.parameters / 1e6:.2f} M",
            f"{row.gflops:.2f}",
            f"{row.seconds:.0f} s",
        )
    table_console().print(table)
    print(f"One seed and {EPOCHS} epochs: a difference this small data could make by chance is no verdict.")
    print(f"tables, curves and annotated pictures in {out}: */curves.png, */pictures.jpg, */val-test/")
