from __future__ import annotations

from pathlib import Path

from detrofit.config.load import setting_keys
from detrofit.config.pages import settings_page

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_of_settings_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "python -m detrofit.config.pages > docs/settings.md"


def test_the_page_has_every_setting():
    for key in setting_keys():
        if not key.startswith("model."):
            assert f"| `{key}` |" in settings_page()
    assert "| `model.num_queries` |" in settings_page()
