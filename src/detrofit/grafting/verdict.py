"""What a graft found, in a few sentences, from its results alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from detrofit.grafting.budget import Budget, limits
from detrofit.grafting.library import KEEP
from detrofit.grafting.score import LEAST_LOSS

Results = dict[str, Any]
Point = Mapping[str, Any]  # of the free knobs


def verdict(results: Results) -> str:
    """The model that is recommended with what it costs and loses, or plainly that it is the original, and why."""
    if results["winner"] == KEEP:
        return f"Keep the original: {_why_keep(results)}.{_without_graft(results)}"
    best = next(each for each in results["assembled"] if each["name"] == results["winner"])
    score, cost, teacher = best["score"], best["cost"], results["teacher"]
    parameters = cost["parameters"] / teacher["cost"]["parameters"]
    takes = "takes" if best["timed"] else "should take, by what the device has timed of its swaps alone,"
    return (
        f"{best['name']} {takes} {cost['ratio']:.2f} (95 %: {cost['ratio_low']:.2f} to {cost['ratio_high']:.2f}) of "
        f"the latency and {parameters:.2f} of the parameters; AP on the search split {100 * score['ap']:.1f}"
        f"{_interval(score)}, the original's is {100 * teacher['score']['ap']:.1f}; loss {score['loss']:+.3f} ± "
        f"{score['loss_error']:.3f}."
        f"{_finished(best, results)}{_free_knobs(best, results)}"
    )


def _interval(score: Mapping[str, Any]) -> str:
    """Of an AP, by its difference to the original's; empty where a score of an older version has none."""
    if score["ap_low"] is None:
        return ""
    return f" (against the original 95 %: {100 * score['ap_low']:.1f} to {100 * score['ap_high']:.1f})"


def _finished(best: Results, results: Results) -> str:
    if not best["finished"]:
        return ""
    both = 100 * best["finished"]["ap"], 100 * results["finished_teacher"]["ap"]
    handed = "" if best["file_is_finished"] else " Since that is lower than before, the file is the one from before."
    return f" Fine-tuned, its AP is {both[0]:.1f}, that of the original fine-tuned alike {both[1]:.1f}.{handed}"


def _free_knobs(best: Results, results: Results) -> str:
    """What needs no graft and does at least as well, which whoever reads this would rather take."""
    limit = _limits(results) | {"latency": _amounts(best, results)["latency"]}
    most = knob_within(results["knobs"], limit, results["teacher"]["cost"]["latency"])
    if most is None or most["ap"] < best["score"]["ap"]:
        return ""
    if best["file_is_finished"] and most["ap"] < best["finished"]["ap"]:
        return f" Without any graft and without fine-tuning, {knob_text(most)}."
    return f" But no graft is needed for that: {knob_text(most)}."


def _without_graft(results: Results) -> str:
    """What meets a budget where no graft does and the original does not."""
    limit = _limits(results)
    if not limit or _excess(results["teacher"], results, limit) <= 1:
        return ""
    most = knob_within(results["knobs"], limit, results["teacher"]["cost"]["latency"])
    return "" if most is None else f" Without any graft, {knob_text(most)}."


def knob_within(points: Iterable[Point], limit: Mapping[str, float], latency: float) -> Point | None:
    """The most accurate point of the free knobs within limits of latency and parameters; None if there is none.

    `latency` is that of the model as trained.
    """
    fitting = [
        each
        for each in points
        if latency * each["ratio"] <= limit.get("latency", math.inf)
        and each["parameters"] <= limit.get("parameters", math.inf)
    ]
    return max(fitting, key=lambda each: float(each["ap"]), default=None)


def knob_text(point: Point) -> str:
    """A point of the free knobs with what it gives, and how to have it."""
    return (
        f"{knob_setting(point)} give AP {100 * point['ap']:.1f} at {point['ratio']:.2f} of the latency; "
        "`detrofit trade` writes that model"
    )


def knob_setting(point: Point) -> str:
    """A point of the free knobs in words."""
    height, width = point["imgsz"]
    return f"{width} x {height} pixels, {point['num_queries']} queries and {point['decoder_layers']} decoder layers"


def _why_keep(results: Results) -> str:
    budgets = [Budget(**each) for each in results["settings"]["budgets"]]
    asked, runtime = " and ".join(each.text for each in budgets), results["settings"]["runtime"]
    limit = _limits(results)
    sound = [each for each in results["assembled"] if each["score"]["total"] is not None]
    if budgets and _excess(results["teacher"], results, limit) <= 1:
        surely = "" if "parameters" in limit else " and is faster for sure"
        return f"it is within {asked} itself, and nothing that was assembled loses less{surely}"
    if "parameters" not in limit and not any(each["cost"]["ratio_high"] < 1 for each in results["candidates"]):
        return (
            f"none of the {len(results['candidates'])} candidates makes it faster in {runtime} here by more than the "
            "timing's uncertainty, whatever it saves in parameters or operations"
        )
    if not limit or not sound:
        return (
            f"nothing that was assembled is faster in {runtime} for sure and known to lose next to nothing (no more "
            f"than chance, and less than {LEAST_LOSS:.0%} of what random numbers lose)"
        )
    near = min(sound, key=lambda each: _excess(each, results, limit))
    cost, share = near["cost"], near["cost"]["parameters"] / results["teacher"]["cost"]["parameters"]
    return (
        f"put together and measured, nothing is within {asked} and faster for sure; the nearest, {near['name']}, takes "
        f"{cost['ratio']:.2f} (95 %: {cost['ratio_low']:.2f} to {cost['ratio_high']:.2f}) of the latency in {runtime} "
        f"and {share:.2f} of the parameters"
    )


def _limits(results: Results) -> dict[str, float]:
    """Of the budgets, in milliseconds and parameters."""
    budgets = [Budget(**each) for each in results["settings"]["budgets"]]
    return limits(budgets, _amounts(results["teacher"], results))


def _amounts(entry: Results, results: Results) -> dict[str, float]:
    latency = results["teacher"]["cost"]["latency"] * entry["cost"]["ratio"]
    return {"latency": latency, "parameters": float(entry["cost"]["parameters"])}


def _excess(entry: Results, results: Results, limit: dict[str, float]) -> float:
    """What it takes of the tightest limit as a share; at most 1 within the budgets."""
    amounts = _amounts(entry, results)
    return max(amounts[kind] / most for kind, most in limit.items())
