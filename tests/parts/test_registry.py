from __future__ import annotations

import hashlib
import importlib
import sys
from typing import Annotated

import pytest
from pydantic import Field
from torch import nn

from detrofit import DetrofitError
from detrofit.parts import registry
from detrofit.parts.registry import all_parts, get_part, load_plugins, part, parts_for
from detrofit.parts.slots import SLOTS, STAGE_BLOCK
from detrofit.version import __version__

PLUGIN = '''
from torch import nn
from detrofit import part
from detrofit.parts.slots import STAGE_ATTENTION

@part("test-identity", fits=[STAGE_ATTENTION])
class TestIdentity(nn.Identity):
    """Nothing."""

    def __init__(self, *, strength: float = 1.0) -> None:
        super().__init__()
'''


@pytest.fixture(autouse=True)
def known_parts_stay_as_they_were(monkeypatch):
    list(all_parts())
    monkeypatch.setattr(registry, "_PARTS", dict(registry._PARTS))
    for name in [name for name in sys.modules if name.startswith("detrofit_plugin_")]:
        del sys.modules[name]


def test_every_slot_has_a_part_and_every_part_says_what_it_is():
    for slot in SLOTS:
        assert parts_for(slot), f"nothing fits {slot.pattern}"
    for known in all_parts():
        assert known.summary, f"{known.name} has no docstring"
        assert known.origin.source == "detrofit" and known.origin.version == __version__


def test_the_signature_is_the_one_source_of_options():
    @part("test-options", fits=[STAGE_BLOCK])
    class Options(nn.Module):
        def __init__(self, in_channels: int, *, size: Annotated[int, Field(ge=1)], rate: float = 0.5) -> None:
            super().__init__()

    known = get_part("test-options")
    assert list(known.options.model_fields) == ["size", "rate"]
    assert known.accepts({"in_channels": 8, "out_channels": 8, "stride": 1}) == {"in_channels": 8}
    with pytest.raises(DetrofitError, match="option 'size' is required"):
        registry.validated(known.options, {}, "here")
    with pytest.raises(DetrofitError, match="option 'size' = 0: input should be greater"):
        registry.validated(known.options, {"size": 0}, "here")


def test_a_plugin_brings_its_part_with_its_file_name_and_digest(tmp_path):
    file = tmp_path / "with space" / "my_part.py"
    file.parent.mkdir()
    file.write_text(PLUGIN)
    load_plugins([file])
    load_plugins([file])
    origin = get_part("test-identity").origin
    assert origin.source == "my_part.py"
    assert origin.version == hashlib.sha256(PLUGIN.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.py", None, "missing.py does not exist"),
        ("broken.py", "1 / 0", "broken.py failed to import: ZeroDivisionError"),
        ("text.txt", "hello", "text.txt is not a Python file"),
        ("taken.py", PLUGIN.replace("test-identity", "extradw"), "'extradw' of taken.py is taken by detrofit"),
        ("idle.py", PLUGIN.replace("[STAGE_ATTENTION]", "[]"), "'test-identity' of idle.py fits no slot"),
        ("bare.py", PLUGIN.replace("[STAGE_ATTENTION]", "STAGE_ATTENTION"), "'test-identity' of bare.py fits no slot"),
    ],
)
def test_a_bad_plugin_is_one_line(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DetrofitError, match=message):
        load_plugins([tmp_path / name])


def test_installed_packages_bring_parts_by_entry_point(tmp_path, monkeypatch):
    (tmp_path / "others_parts.py").write_text(PLUGIN)
    info = tmp_path / "others_parts-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others-parts\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[detrofit.parts]\nidentity = others_parts\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    registry._discover.cache_clear()
    origin = get_part("test-identity").origin
    assert (origin.source, origin.version) == ("others-parts", "1.2")
    del sys.modules["others_parts"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("strength=1.0", "part 'test-identity': option 'strength' has no type"),
        ("strength: Missing = 1.0", "part 'test-identity': its options cannot be read: .*'Missing' is not defined"),
        ("strength: nn.Module = None", "part 'test-identity': its options cannot be read: .*Module"),
    ],
)
def test_options_that_cannot_be_read_are_one_line(tmp_path, option, message):
    file = tmp_path / "options.py"
    file.write_text("from __future__ import annotations\n" + PLUGIN.replace("strength: float = 1.0", option))
    load_plugins([file])
    with pytest.raises(DetrofitError, match=message) as caught:
        _ = get_part("test-identity").options
    assert "\n" not in str(caught.value)


def test_an_unknown_part_names_the_nearest():
    with pytest.raises(DetrofitError, match="there is no part 'extradv'; did you mean 'extradw'"):
        get_part("extradv")
