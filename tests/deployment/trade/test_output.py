from __future__ import annotations

import io

from rich.console import Console

from detrofit.deployment.trade.choice import TradePoint
from detrofit.deployment.trade.output import print_trade
from detrofit.deployment.trade.points import Point
from detrofit.deployment.trade.run import Trade
from detrofit.deployment.trade.timing import PointLatency


def lines(trade: Trade) -> list[str]:
    text = io.StringIO()
    print_trade(trade, Console(file=text, width=120))
    return [line for line in text.getvalue().splitlines() if " x " in line]


def test_the_point_as_trained_is_marked_and_no_other_where_a_record_lacks_it():
    trained, other = Point((64, 64), 40, 2), Point((32, 32), 10, 1)
    points = [
        TradePoint(point, {"AP": ap, "AP50": ap, "AP_small": float("nan")}, PointLatency(ms, ms, ms))
        for point, ap, ms in ((trained, 0.5, 9.0), (other, 0.4, 3.0))
    ]
    fast, slow = lines(Trade("m", "d", "val", "onnx", {}, points, trained))
    assert "as trained" in slow and "as trained" not in fast and "*" in fast
    (only,) = lines(Trade("m", "d", "val", "onnx", {}, points[1:], trained))
    assert "as trained" not in only


def test_why_points_have_no_time_is_said_once_for_each_reason():
    latency = PointLatency(9.0, 9.0, 9.0)
    points = [TradePoint(Point((64, 64), 40, 2), {"AP": 0.5, "AP50": 0.5, "AP_small": 0.5}, latency)]
    for queries, failure in ((10, "it [disagrees]"), (20, "it [disagrees]"), (30, "no memory")):
        points.append(TradePoint(Point((64, 64), queries, 2), points[0].scores, None, failure))
    text = io.StringIO()
    print_trade(Trade("m", "d", "val", "onnx", {}, points, points[0].point), Console(file=text, width=120))
    said = [line.strip() for line in text.getvalue().splitlines() if line.startswith("not timed (")]
    assert said == ["not timed (2): it [disagrees]", "not timed (1): no memory"]
