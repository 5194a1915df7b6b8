"""What the trained model can give up without any graft: input size, queries, decoder layers."""

from __future__ import annotations

from typing import Any

from detrofit.deployment.trade.output import as_json
from detrofit.deployment.trade.run import TradeSettings, trade
from detrofit.deployment.trade.timing import FORMATS
from detrofit.grafting.cost import timed_here, timing
from detrofit.grafting.workshop import Workshop
from detrofit.model.costs import count_parameters
from detrofit.model.fuse import fuse
from detrofit.weights.truncate import truncated

FILE = "knobs.json"


def free_knobs(workshop: Workshop) -> list[dict[str, Any]]:
    """The front of the free knobs, fastest first: each with AP on the search split, latency as a share, parameters.

    The curve that grafting must beat. The share is of the model as trained, timed as grafts are, on this machine and
    device: of others it is measured anew.
    """
    settings, known = workshop.settings, workshop.record(FILE)
    if not timed_here(workshop, known):
        measured = trade(
            workshop.file,
            workshop.data_path,
            workshop.folder / "knobs",
            TradeSettings(
                format=FORMATS[settings.runtime],
                device=settings.device,
                split=workshop.search.split,
                batch=settings.batch,
                workers=settings.workers,
                rounds=settings.rounds,
                from_file=False,
                plugins=settings.plugins,
            ),
        )
        known = as_json(measured) | timing(workshop)
        workshop.look(len(measured.points))
        workshop.keep(FILE, known)
    base = known["points"][0]["latency"]
    front = [
        {
            **{key: each[key] for key in ("imgsz", "num_queries", "decoder_layers")},
            "ap": each["AP"],
            "ratio": each["latency"]["milliseconds"] / base["milliseconds"],
            "parameters": _parameters(workshop, each["num_queries"], each["decoder_layers"]),
        }
        for each in known["points"]
        if each["on_front"]
    ]
    return sorted(front, key=lambda each: each["ratio"])


def _parameters(workshop: Workshop, num_queries: int, decoder_layers: int) -> int:
    """Of the deploy form, as those of grafts are counted."""
    model = truncated(workshop.teacher, num_queries=num_queries, decoder_layers=decoder_layers)
    return count_parameters(fuse(model))
