"""The example in docs/guides/report.md does what it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "report.md"


def test_the_example_makes_a_page() -> None:
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile("\n".join(code), str(GUIDE), "exec"), names)
    assert names["html"].count('class="mark"') == 2 and "It reaches 45 AP." in names["html"]
