"""The page of a graft: what was replaced where, the front, predicted against measured, everything that was tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detrofit.grafting.additivity import tau_text
from detrofit.grafting.library import KEEP
from detrofit.grafting.verdict import knob_setting
from detrofit.pages.blocks import Block, Cell, Code, Column, Facts, Fold, Page, Row, Section, Table, Text
from detrofit.pages.charts import Chart, Sheet, draw_chart
from detrofit.pages.colours import Series, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Results = dict[str, Any]
HEIGHT = 380


def graft_page(results: Results) -> Page:
    """The page of a results.json."""
    series = [Series("the original", 0), *(Series(each["name"], n) for n, each in enumerate(results["assembled"], 1))]
    teacher = results["teacher"]
    return Page(
        title=teacher["file"],
        kind="Detrofit graft",
        lead=results["verdict"],
        series=series,
        head=[_facts(results), *(Text(note, note=True) for note in results["notes"])],
        sections=[
            Section("What was replaced", _replaced(results, series)),
            Section("Accuracy against latency", [_front_chart(results, series)] if results["assembled"] else []),
            Section("Predicted and measured", _predictions(results, series)),
            Section("Every candidate tried", [_candidate_table(results)]),
            Section("How it was done", _method(results)),
        ],
    )


def _facts(results: Results) -> Facts:
    teacher, control = results["teacher"], results["control"]
    hours = sum(results["hours"].values())
    return Facts(
        [
            ("AP of the original, search split", _ap(teacher["score"])),
            ("AP with random numbers in all slots", _ap(control)),
            (f"latency of the original, {results['settings']['runtime']}", f"{teacher['cost']['latency']:.2f} ms"),
            ("parameters", f"{teacher['cost']['parameters'] / 1e6:.2f} M"),
            ("hours spent", f"{hours:.2f}"),
            ("looks at the search split", str(results["search"]["looks"])),
        ]
    )


def _replaced(results: Results, series: Sequence[Series]) -> list[Block]:
    rows = [Row([_badge("the original", results), *_numbers_of(results["teacher"], results), ""], series[0])]
    for each, own in zip(results["assembled"], series[1:]):
        finished = _ap(each["finished"]) if each["finished"] else ""
        rows.append(Row([_badge(each["name"], results), *_numbers_of(each, results), finished], own))
    if results["finished_teacher"]:
        rows.append(Row(["the original, fine-tuned alike", "", "", "", "", _ap(results["finished_teacher"])]))
    columns = [
        Column("model", numeric=False),
        *map(Column, ("latency", "parameters", "AP", "loss", "AP fine-tuned")),
    ]
    table = Table("Assembled models against the original", columns, rows)
    lists = [
        Fold(each["name"], [Code("\n".join(each["keys"]))], open=each["name"] == results["winner"])
        for each in results["assembled"]
    ]
    return [
        table,
        Text(
            "Latency from a picture to detections, batch 1, as a share of the original's in the same rounds, with its "
            "95 % interval. AP, and the detection loss (± standard error over pictures) against the original's, on the "
            "search split, on which the choice was made: it flatters the chosen. Score the model on another split "
            "before you believe it.",
            note=True,
        ),
        *lists,
    ]


def _numbers_of(entry: Results, results: Results) -> list[Cell]:
    cost, score, of_teacher = entry["cost"], entry["score"], results["teacher"]["cost"]
    share = cost["parameters"] / of_teacher["parameters"]
    return [
        Cell(f"{cost['ratio']:.2f}", f"{cost['ratio_low']:.2f} to {cost['ratio_high']:.2f}", value=cost["ratio"]),
        Cell(f"{share:.2f}", f"{cost['parameters'] / 1e6:.2f} M", value=share),
        Cell(_ap(score), value=score["ap"]),
        _with_error(score, "loss", "+.3f"),
    ]


def _badge(name: str, results: Results) -> Cell:
    chosen = results["winner"] in (name, KEEP if name == "the original" else name)
    return Cell(name, "recommended" if chosen else "", tone="strong" if chosen else "")


def _front_chart(results: Results, series: Sequence[Series]) -> Chart:
    entries = [results["teacher"] | {"finished": results["finished_teacher"]}, *results["assembled"]]

    def draw(sheet: Sheet) -> None:
        axes = sheet.figure.add_subplot()
        for entry, own in zip(entries, series):
            if entry["score"]["ap"] is None:
                continue
            score, cost, ap = entry["score"], entry["cost"], 100 * entry["score"]["ap"]
            error = [[cost["latency"] - cost["latency_low"]], [cost["latency_high"] - cost["latency"]]]
            low, high = (ap if end is None else 100 * end for end in (score["ap_low"], score["ap_high"]))
            ap_error = [[max(ap - low, 0)], [max(high - ap, 0)]]
            lines = axes.errorbar(
                cost["latency"], ap, ap_error, error, fmt=own.marker, color=own.colour, markersize=8, capsize=3
            )
            sheet.paint(own, *lines.get_children())
            if entry["finished"]:
                after = axes.plot(cost["latency"], 100 * entry["finished"]["ap"], own.marker, color=own.colour,
                                  markerfacecolor="none", markersize=8)  # fmt: skip
                sheet.paint(own, *after)
            sheet.mark(axes, cost["latency"], ap, f"{own.name}\nAP {ap:.1f}, {cost['latency']:.2f} ms", own)
        _draw_knobs(sheet, axes, results)
        if results["control"]["ap"] is not None:
            axes.axhline(100 * results["control"]["ap"], linestyle=":", color=series[0].colour, linewidth=1)
        axes.set_xlabel(f"latency, ms ({results['settings']['runtime']}, batch 1)")
        axes.set_ylabel("AP on the search split")

    return draw_chart(
        "front",
        "AP against latency",
        draw,
        caption="Bars across: 95 % interval of the median. Bars upright: the same of the difference of AP to the "
        "original's, over drawings of the pictures. Crosses: input size, queries and decoder layers alone, no "
        "graft. Dotted: the same slots with random numbers, untrained. "
        "Open marks: after fine-tuning.",
        alternative="AP on the search split against latency, for the original and every assembled model.",
        height=HEIGHT,
    )


def _draw_knobs(sheet: Sheet, axes: Axes, results: Results) -> None:
    """The front of the free knobs: what needs no graft."""
    latency = results["teacher"]["cost"]["latency"]
    points = [(latency * each["ratio"], 100 * each["ap"], each) for each in results["knobs"]]
    axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "x--", color=ink("soft"), linewidth=1, markersize=6)
    for x, y, each in points:
        sheet.mark(axes, x, y, f"no graft: {knob_setting(each)}\nAP {y:.1f}, {x:.2f} ms")


def _predictions(results: Results, series: Sequence[Series]) -> list[Block]:
    if not results["assembled"]:
        return []
    rows = []
    for each, own in zip(results["assembled"], series[1:]):
        measured = results["teacher"]["cost"]["latency"] * each["cost"]["ratio"]
        rows.append(
            Row(
                [
                    each["name"],
                    Cell(f"{each['predicted_loss']:.3f}", value=each["predicted_loss"]),
                    _with_error(each["score"], "total"),
                    Cell(f"{each['predicted_latency']:.2f}", value=each["predicted_latency"]),
                    Cell(f"{measured:.2f}", value=measured) if each["timed"] else Cell("-"),
                ],
                own,
            )
        )
    columns = [Column("model", numeric=False), *map(Column, ("loss predicted", "measured", "ms predicted", "measured"))]
    factors = results["corrections"]
    return [
        Table("Sums over single swaps against what was measured together", columns, rows),
        Text(
            "Predictions add up what each swap is expected to do: its loss alone, and what its own time and those of "
            f"{len(results['sets'])} random sets of swaps let expect. Measured together, the loss is "
            f"{factors['loss']:.2f} times and the change of latency {factors['latency']:.2f} times the sum (first "
            "assemblies). The choice was made a second time, with sums corrected by these factors and by what each "
            "assembly is off beside them, shared among its candidates. The loss is detection loss and distance to the "
            f"original's outputs.{_order(results['tau'])}",
            note=True,
        ),
    ]


def _order(tau: Results | None) -> str:
    """How well sums tell which assembly loses less."""
    if tau is None:
        return ""
    return (
        f" Kendall's tau between losses predicted and measured over {tau['number']} assemblies: {tau_text(tau)} "
        "(1: the same order, 0: none)."
    )


def _candidate_table(results: Results) -> Table:
    columns = [
        Column("slot", numeric=False),
        Column("candidate", numeric=False),
        *map(Column, ("imitation error", "loss", "AP", "latency", "Δ M parameters", "Δ GFLOPs")),
    ]
    rows = [Row(_candidate_cells(each, results["teacher"]["cost"])) for each in results["candidates"]]
    return Table("Each candidate alone in the original", columns, rows, compact=True)


def _candidate_cells(entry: Results, teacher: Results) -> list[Cell]:
    score, cost, error = entry["score"], entry["cost"], entry["imitation_error"]
    faster = cost["ratio_high"] < 1
    parameters, flops = (cost[key] - teacher[key] for key in ("parameters", "flops"))
    interval = f"{cost['ratio_low']:.3f} to {cost['ratio_high']:.3f}"
    return [
        Cell(entry["slot"]),
        Cell(entry["candidate"]),
        Cell("diverged" if error is None else f"{error:.3f}", value=error),
        _with_error(score, "total"),
        Cell(_ap(score), value=score["ap"]),
        Cell(f"{cost['ratio']:.3f}", interval, tone="good" if faster else "", value=cost["ratio"]),
        Cell(f"{parameters / 1e6:+.3f}", value=parameters),
        Cell(f"{flops / 1e9:+.3f}", value=flops),
    ]


def _method(results: Results) -> list[Block]:
    settings, machine = results["settings"], results["machine"]
    hours = "; ".join(f"{step} {60 * spent:.1f} min" for step, spent in results["hours"].items())
    return [
        Text(
            f"Each candidate learnt for {settings['steps']} steps of {settings['batch']} pictures to imitate what the "
            "original holds in its slot (1: as bad as each channel's mean, 0: equal), from the original's inputs; "
            f"assembled ones for {settings['second_steps']} more from their own. Batch norms moved by what "
            f"{settings['norm_pictures']} training pictures tell of the swap. Seed {settings['seed']}."
        ),
        Text(
            f"Search split '{results['search']['split']}': {results['search']['pictures']} pictures, "
            f"{results['search']['boxes']} boxes, {results['search']['looks']} models looked at it."
        ),
        Text(f"Time: {hours}."),
        Text(
            f"Timed on {machine.get('processor', '?')}, {machine.get('cores', '?')} cores, {_rounds(settings)}, "
            f"{results['date']}."
        ),
    ]


def _rounds(settings: Results) -> str:
    """How it was timed; a device's file has its own number of rounds."""
    bench = settings["bench"]
    return f"{settings['rounds']} rounds in turns" if bench is None else f"as {Path(bench).name} says"


def _ap(score: Results) -> str:
    return "-" if score["ap"] is None else f"{100 * score['ap']:.1f}"


def _with_error(score: Results, name: str, form: str = ".3f") -> Cell:
    """A number of a score with its standard error; of what does not answer in numbers, a dash."""
    if score[name] is None:
        return Cell("-")
    return Cell(f"{score[name]:{form}}", f"± {score[f'{name}_error']:.3f}", value=score[name])
