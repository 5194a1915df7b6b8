"""The chosen graft of a record, made again for the test split where its folder is gone, with a machine for instance."""

from __future__ import annotations

from graft_bench import Bench, Row
from graft_rivals import reference, rival

from detrofit.grafting.assemble import make_model, model_file
from detrofit.grafting.finish import finish
from detrofit.grafting.library import KEEP
from detrofit.grafting.score import Scorer
from detrofit.grafting.training import train_library

AGAIN = "graft, made again"


def made_again(bench: Bench) -> Row:
    """Train the recorded candidates as they were trained, and fine-tune the graft and the teacher; so the free knobs.

    Nothing is chosen or timed. Gives AP on the validation split by model, now and as recorded; empty where the graft is
    there.
    """
    grafted = bench.row("graft")
    held = reference(grafted)
    if model_file(bench.tool(), held["name"]).exists():
        return {}
    workshop = bench.tool(AGAIN)  # a folder of its own: one that was stopped is not taken for the graft
    states, _ = train_library(workshop)
    scorer = Scorer(workshop)
    score = make_model(workshop, scorer, held["name"], held["keys"], states)
    pairs = {held["name"]: (score.ap, held["score"]["ap"])}
    if bench.finish_epochs and held["finished"]:
        files = {KEEP: workshop.file, held["name"]: model_file(workshop, held["name"])}
        tuned = finish(workshop, scorer, files, bench.finish_epochs)
        recorded = {KEEP: grafted["finished_teacher"], held["name"]: held["finished"]}
        pairs |= {f"{name}, fine-tuned": (tuned[name]["score"].ap, recorded[name]["ap"]) for name in files}
    if grafted["knobs"]:
        rival(bench, "free knobs")
    return {name: {"val AP": now, "recorded": before} for name, (now, before) in pairs.items()}
