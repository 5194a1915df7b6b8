"""The `models` command."""

from __future__ import annotations


def models() -> None:
    """List the models of the zoo with their parameters and operations."""
    import torch
    from rich.table import Table

    from detrofit.cli.console import table_console
    from detrofit.config.models import frame_and_choices, model_names, stock_model
    from detrofit.model.build import assemble
    from detrofit.model.costs import count_flops, count_parameters

    table = Table("model", "parameters", "GFLOPs at 640", "what it is")
    for name in model_names():
        with torch.device("meta"):
            model, _ = assemble(*frame_and_choices(name), num_classes=80)
        flops = count_flops(model, (640, 640))
        table.add_row(
            name, f"{count_parameters(model) / 1e6:.1f} M", f"{flops / 1e9:.1f}", stock_model(name).description
        )
    table_console().print(table)
