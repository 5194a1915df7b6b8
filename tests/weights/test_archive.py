"""Torch files that mean harm or are broken: nothing in them runs, and each is refused in one line."""

from __future__ import annotations

import io
import os
import pickle
import struct
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor, nn

from detrofit.errors import DetrofitError
from detrofit.weights import inert_pickle
from detrofit.weights.archive import read_archive
from detrofit.weights.foreign import read_foreign
from detrofit.weights.inert_pickle import Inert, Named, read_pickle
from detrofit.weights.pickled_module import module_tensors


class Command:
    """What a hostile checkpoint has inside: a call that runs when it is unpickled as usual."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def torch_zip(file: Path, data: bytes, storages: dict[str, bytes] | None = None, **options: Any) -> Path:
    """A file as torch writes it, with this pickle and these storages."""
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", data)
        for key, content in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", content)
    return file


def tensor_pickle(shape: tuple[int, ...], stride: tuple[int, ...], length: int, offset: int = 0) -> bytes:
    """The pickle of {"w": tensor} over storage '0' with any numbers in it."""
    numbers = b"".join(b"(" + b"".join(b"L%dL\n" % number for number in group) + b"t" for group in (shape, stride))
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuL%dL\ntQ" % length
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"L%dL\n" % offset + numbers + b"I00\nNtR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"s."


def test_a_command_is_read_as_a_name_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"model": {"w": torch.ones(2)}, "extra": Command(marker)}, tmp_path / "bad.pth")
    content = read_archive(tmp_path / "bad.pth")
    assert isinstance(content["extra"], Inert) and content["extra"].kind.name == "system"
    assert read_foreign(tmp_path / "bad.pth") is None
    assert not marker.exists()


@pytest.mark.parametrize(("module", "name"), [("builtins", "eval"), ("torch._utils", "_import_dotted_name")])
def test_callables_stay_names(module: str, name: str) -> None:
    data = f"c{module}\n{name}\n(X".encode() + struct.pack("<I", 4) + b"1+1\n" + b"tR."
    made = read_pickle(data)
    assert isinstance(made, Inert) and made.kind == Named(module, name)


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_of_every_type_and_layout_are_read(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24).reshape(4, 6)
    content = {
        "view": base.t()[1:],
        "none": torch.empty(0, 3),
        "scalar": torch.tensor(2.5),
        "half": torch.randn(3).half(),
        "bfloat": torch.randn(3).bfloat16(),
        "flags": torch.tensor([True, False]),
        "parameter": nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict(a=torch.ones(1)),
        "plain": [1, 2.5, "x", None, True, (1, {"k": 3})],
    }
    torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
    read = read_archive(tmp_path / "a.pt")
    for name, value in content.items():
        if isinstance(value, Tensor):
            assert read[name].dtype == value.dtype and torch.equal(read[name], value), name
    assert torch.equal(read["ordered"]["a"], torch.ones(1))
    assert read["plain"] == [1, 2.5, "x", None, True, (1, {"k": 3})]


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickled_module_gives_its_state(tmp_path: Path, zipped: bool) -> None:
    module = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Sequential(nn.BatchNorm2d(3)))
    torch.save(module, tmp_path / "module.pt", _use_new_zipfile_serialization=zipped)
    tensors = module_tensors(read_archive(tmp_path / "module.pt"))
    assert tensors.keys() == module.state_dict().keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in module.state_dict().items())


def colliding(number: int) -> bytes:
    """The pickle of a whole number that has the hash 7, whichever `number` is."""
    value = 7 + (number + 1) * sys.hash_info.modulus
    return b"\x8a\x0b" + value.to_bytes(11, "little")


BOMBS = {
    "deep": (b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".", None),
    "doubling": (b"\x80\x02)" + b"2\x86" * 5000 + b".", None),
    "far memo": (b"\x80\x02Nr\xff\xff\xff\xff.", None),
    "doubling key": (b"\x80\x02})" + b"2\x86" * 200 + b"Ns.", None),
    "long bytes": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", "damaged"),
    "long number": (b"I" + b"9" * 100_000 + b"\n.", "damaged"),
    "keys of one hash": (b"\x80\x02}(" + b"".join(colliding(number) + b"N" for number in range(200_000)) + b"u.", None),
    "extension": (b"\x82\x01.", "EXT1"),
    "nothing": (b"", "damaged"),
    "unfinished": (b"\x80\x02}(", "damaged"),
    "no mark": (b"\x80\x02t.", "damaged"),
    "empty stack": (b"\x80\x02R.", "damaged"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickle_bombs(name: str) -> None:
    data, message = BOMBS[name]
    if message is None:
        read_pickle(data)  # harmless here: shared, never walked through
        return
    with pytest.raises(DetrofitError, match=message):
        read_pickle(data)


DOUBLED = b")" + b"2\x86" * 5000  # a tuple that would take more memory than there is, were it ever walked through


def test_what_is_called_may_be_anything_and_is_never_walked_through(tmp_path: Path) -> None:
    made = read_pickle(b"\x80\x02" + DOUBLED + b")R.")
    assert isinstance(made, Inert) and made.name == "nameless object"
    file = torch_zip(tmp_path / "a.pt", b"\x80\x02}X\x05\x00\x00\x00model" + DOUBLED + b")Rs.")
    with pytest.raises(DetrofitError, match="holds a nameless object; of such models only RT-DETR"):
        read_foreign(file)


@pytest.mark.parametrize("name", ["x" * 1000, "a\x1b[2J"])
def test_names_that_no_class_has_are_refused(name: str) -> None:
    with pytest.raises(DetrofitError, match="a class with a name that none has"):
        read_pickle(b"cmodule\n" + name.encode() + b"\n.")


def test_a_pickle_of_endless_instructions_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inert_pickle, "_MOST_INSTRUCTIONS", 100)
    with pytest.raises(DetrofitError, match="more instructions than any checkpoint's"):
        read_pickle(b"]0" * 100 + b"N.")


def test_modules_that_share_a_large_dictionary_are_refused() -> None:
    shared = {str(number): number for number in range(20_000)}
    children = {str(number): Inert(Named("a", "B"), state={"_buffers": shared}) for number in range(4)}
    with pytest.raises(DetrofitError, match="more tensors than any detector's"):
        module_tensors(Inert(Named("a", "B"), state={"_modules": children}))


def test_a_module_of_modules_without_end_is_refused() -> None:
    module = Inert(Named("a", "B"), state={"_modules": {}})
    module.state["_modules"]["x"] = module.state["_modules"]["y"] = module
    with pytest.raises(DetrofitError, match=r"deeper|more modules"):
        module_tensors(module)


def test_a_packed_zip_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = {"0": b"\0" * 50_000_000}
    file = torch_zip(tmp_path / "a.pt", tensor_pickle((1,), (1,), 1), bomb, compression=zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 100_000
    with pytest.raises(DetrofitError, match="is packed, which torch never does"):
        read_archive(file)


def test_a_zip_whose_end_only_others_find_is_refused(tmp_path: Path) -> None:
    file = torch_zip(
        tmp_path / "a.pt", tensor_pickle((1,), (1,), 1), {"0": b"\0" * 10**6}, compression=zipfile.ZIP_DEFLATED
    )
    file.write_bytes(file.read_bytes() + b"\0" * 70_000)  # behind more bytes than a zip's comment may have
    with pytest.raises(DetrofitError, match=r"no readable checkpoint \(damaged or truncated\)"):
        read_foreign(file)


def test_a_tar_is_no_checkpoint(tmp_path: Path) -> None:
    """Versions of torch before 2.6 unpacked one, as older ones had written it, and ran what it held."""
    with tarfile.open(tmp_path / "a.pth", "w") as archive:
        archive.add(Path(__file__), "pickle")
    with pytest.raises(DetrofitError, match="neither a file of torch nor of safetensors"):
        read_foreign(tmp_path / "a.pth")


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    file = torch_zip(tmp_path / "a.pt", b"\x80\x02}.", {"0": b"x" * 5000, "1": b"y" * 10})
    content = bytearray(file.read_bytes())
    directory = content.rindex(b"PK\x01\x02")  # that of the last entry, which now claims the file's length
    content[directory + 20 : directory + 28] = struct.pack("<II", 5000, 5000)
    file.write_bytes(content)
    with pytest.raises(DetrofitError, match=r"more bytes than|damaged"):
        read_archive(file)


@pytest.mark.parametrize(
    ("shape", "stride", "length", "offset"),
    [((4,), (1,), 3, 0), ((2**40,), (0,), 3, 0), ((3,), (1,), 3, 1), ((2, 2), (2,), 3, 0), ((-1,), (1,), 3, 0),
     ((3,), (1,), 2**60, 0), ((3,), (1,), 4, 0)],
)  # fmt: skip
def test_tensors_that_lie_about_their_size(
    tmp_path: Path, shape: tuple[int, ...], stride: tuple[int, ...], length: int, offset: int
) -> None:
    file = torch_zip(tmp_path / "a.pt", tensor_pickle(shape, stride, length, offset), {"0": b"\0" * 12})
    if length == 2**60:  # no such count: the tensor stays a record
        assert isinstance(read_archive(file)["w"], Inert)
        return
    with pytest.raises(DetrofitError, match=r"no proper shape|more numbers than|fewer bytes"):
        read_archive(file)


def test_the_honest_one_is_read(tmp_path: Path) -> None:
    file = torch_zip(tmp_path / "a.pt", tensor_pickle((3,), (1,), 3), {"0": struct.pack("<3f", 1, 2, 3)})
    assert read_archive(file)["w"].tolist() == [1, 2, 3]


def test_truncated_files(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1000)}, tmp_path / "whole.pt")
    content = (tmp_path / "whole.pt").read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "part.pt").write_bytes(content[: int(len(content) * share)])
        with pytest.raises(DetrofitError, match="no readable checkpoint"):
            read_foreign(tmp_path / "part.pt")


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":{"dtype":"F32","shape":[1000000],"data_offsets":[0,4000000]}}',
        b'{"w":{"dtype":"F32","shape":[4]',
        b'{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"v":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
        b'{"w":{"dtype":"F32","shape":[0,%d],"data_offsets":[0,0]}}' % 2**63,
        b'{"w":{"dtype":"F4","shape":[32],"data_offsets":[0,16]}}',
        b"[]",
    ],
)
@pytest.mark.parametrize("stated", [None, 2**62])
def test_safetensors_that_lie(tmp_path: Path, header: bytes, stated: int | None) -> None:
    file = tmp_path / "a.safetensors"
    body = b"" if b"[0,0]" in header else b"\0" * 16
    file.write_bytes(struct.pack("<Q", stated or len(header)) + header + body)
    assert "no readable checkpoint" in (words := refusal(lambda: read_foreign(file))) and "\n" not in words


def whole_file() -> bytes:
    buffer = io.BytesIO()
    torch.save({"model": {"a.weight": torch.ones(3, 2), "b": OrderedDict(c=torch.ones(1))}, "n": 3}, buffer)
    return buffer.getvalue()


def refusal(action: Callable[[], Any]) -> str:
    """What an action was refused with; empty where it was not. Any other exception passes."""
    try:
        action()
    except DetrofitError as error:
        return str(error)
    return ""


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_one_line_or_in_plain_values(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = bytearray(whole_file())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "fuzzed.pt"
    file.write_bytes(content)
    assert "\n" not in refusal(lambda: read_archive(file))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes_are_no_danger_as_a_pickle(data: bytes, protocol: int) -> None:
    start = pickle.dumps({"a": [1, (2, "x")]}, min(protocol, pickle.HIGHEST_PROTOCOL))[:-1]
    for text in (data, start + data):
        assert "\n" not in refusal(lambda text=text: read_pickle(text))  # type: ignore[misc]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_damaged_safetensors_end_in_one_line(data: st.DataObject, tmp_path_factory: Any) -> None:
    content = bytearray(save({"a.weight": torch.ones(3, 2), "b": torch.ones(1)}, {"format": "pt"}))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    file = tmp_path_factory.getbasetemp() / "fuzzed.safetensors"
    file.write_bytes(content)
    assert "\n" not in refusal(lambda: read_foreign(file))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_of_old_torch_end_in_one_line(data: st.DataObject, tmp_path_factory: Any) -> None:
    buffer = io.BytesIO()
    torch.save({"model": {"a.weight": torch.ones(3, 2)}}, buffer, _use_new_zipfile_serialization=False)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file = tmp_path_factory.getbasetemp() / "old.pth"
    file.write_bytes(content)
    assert "\n" not in refusal(lambda: read_foreign(file))


def old_file(file: Path, content: Any) -> bytes:
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.read_bytes()


def test_a_command_in_a_file_of_old_torch_is_a_name_too(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    old_file(tmp_path / "a.pth", {"w": torch.ones(1), "x": Command(marker)})
    content = read_archive(tmp_path / "a.pth")
    assert torch.equal(content["w"], torch.ones(1)) and content["x"].name.endswith(".system")
    assert not marker.exists()


def test_a_file_of_old_torch_that_lies_about_its_storages(tmp_path: Path) -> None:
    whole = old_file(tmp_path / "whole.pth", {"w": torch.arange(1000.0)})
    assert read_archive(tmp_path / "whole.pth")["w"].sum() == 499_500
    count = struct.pack("<q", 1000)
    assert whole.count(count) == 1
    for content, words in {
        whole.replace(count, struct.pack("<q", 2**40)): "storages are not those that its pickle names",
        whole[:-1]: "it is truncated",
        whole.replace(b"\x88", b"\x89", 1): "big-endian",  # the only truth in it before the tensors
    }.items():
        (tmp_path / "lie.pth").write_bytes(content)
        with pytest.raises(DetrofitError, match=words):
            read_archive(tmp_path / "lie.pth")
