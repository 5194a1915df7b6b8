"""Damaged and made-up files get pictures or one clean line, never anything else."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.pictures import decode_picture
from detrofit.runtime.frames import Reading, read_frames
from detrofit.runtime.sources import Video, find_sources
from tests.fuzzing import CHANGES, MANY, check, damaged
from tests.runtime.videos import write_video

FORMS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000")
MODES = ("RGB", "L", "P", "RGBA", "1")


@contextmanager
def clean_line() -> Iterator[None]:
    """What is inside ends well, or with one line for a person."""
    message = ""
    try:
        yield
    except DetrofitError as error:
        message = str(error)
    assert "\n" not in message


def assert_picture_or_line(content: bytes) -> None:
    with clean_line():
        pixels = decode_picture(content, max_pixels=1_000_000)
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        assert 0 < pixels.shape[0] * pixels.shape[1] <= 1_000_000


@pytest.mark.parametrize("examples", [60, MANY])
def test_damaged_pictures(examples: int) -> None:
    files = []
    for form in FORMS:
        for mode in MODES:
            stream = io.BytesIO()
            try:
                Image.new(mode, (13, 11), 1).save(stream, form)
            except OSError:
                continue  # this form has no such mode
            files.append(stream.getvalue())

    @check(examples, st.sampled_from(files), CHANGES, st.integers(1, 5000))
    def _(content: bytes, changes: list[tuple[int, bytes]], length: int) -> None:
        assert_picture_or_line(damaged(content, changes, length))


@pytest.mark.parametrize("examples", [60, MANY])
def test_bytes_that_start_as_pictures_do(examples: int) -> None:
    heads = (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0",
        b"BM",
        b"P6 ",
        b"RIFF0000WEBP",
        b"%!PS-Adobe",
    )

    @check(examples, st.sampled_from(heads), st.binary(max_size=300))
    def _(head: bytes, rest: bytes) -> None:
        assert_picture_or_line(head + rest)


@pytest.mark.parametrize("examples", [15, pytest.param(300, marks=pytest.mark.slow, id="many")])
def test_damaged_videos(examples: int, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    files = [
        write_video(tmp_path / "a.mp4", 6), write_video(tmp_path / "a.mkv", 6),
        write_video(tmp_path / "a.avi", 6, codec="mjpeg"), write_video(tmp_path / "a.ts", 6, form="mpegts"),
    ]  # fmt: skip
    contents = [(file.suffix, file.read_bytes()) for file in files]

    @check(examples, st.sampled_from(contents), CHANGES, st.integers(1, 30_000))
    def _(content: tuple[str, bytes], changes: list[tuple[int, bytes]], length: int) -> None:
        file = tmp_path / f"damaged{content[0]}"
        file.write_bytes(damaged(content[1], changes, length))
        with clean_line():
            for frame in read_frames(find_sources(file), Reading()):
                assert frame.pixels.dtype == np.uint8 and frame.pixels.shape[2] == 3


def test_any_text_names_a_source_or_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pieces = st.sampled_from(("rtsp", "http", "://", "@", ":", "/", "[", "]", "*", "?", ".", "0", "-", "~", "\0", "é"))
    texts = st.one_of(
        st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20),
        st.lists(pieces, max_size=8).map("".join),
    )

    @check(200, texts.filter(lambda text: not text.startswith("/")))  # what lies there is not this test's
    def _(text: str) -> None:
        with clean_line():
            sources = find_sources(text)
            assert all(isinstance(source, Video) for source in sources), "there are no files here"
