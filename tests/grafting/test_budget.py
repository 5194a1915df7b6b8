import pytest

from detrofit import DetrofitError
from detrofit.grafting.budget import limits, parse_budget


def test_what_a_budget_allows():
    teacher = {"latency": 10.0, "parameters": 2e6}
    asked = [parse_budget(text) for text in ("0.7x", "8ms", "0.5xparams", "3Mparams")]
    assert [each.limit(teacher[each.kind]) for each in asked] == pytest.approx([7, 8, 1e6, 3e6])
    assert limits(asked, teacher) == pytest.approx({"latency": 7, "parameters": 1e6})
    assert limits([], teacher) == {}


@pytest.mark.parametrize("text", ["0.7", "x", "-1x", "0x", "20 s", "3params", ""])
def test_other_forms_are_one_line(text):
    with pytest.raises(DetrofitError, match=r"--budget takes 0\.7x, 20ms, 0\.6xparams or 3Mparams"):
        parse_budget(text)
