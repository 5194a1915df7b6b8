"""Videos, streams that break, cameras and standard input."""

from __future__ import annotations

import io
import itertools
import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.frames import Frame, Reading, StreamLost, read_frames
from detrofit.runtime.sources import Video, find_sources
from tests.runtime.videos import breaking_server, brightness_of, write_pictures, write_video

av = pytest.importorskip("av", reason="PyAV is not installed")
from detrofit.runtime.video import BackOff, expected_frames, video_frames  # noqa: E402

QUICK = BackOff(attempts=3, first=0.01, longest=0.02)


def frames_of(source: object, reading: Reading | None = None) -> list[Frame]:
    return list(read_frames(find_sources(source), reading or Reading()))  # type: ignore[arg-type]


def from_address(address: str, reading: Reading | None = None) -> list[Frame]:
    (source,) = find_sources(address)
    assert isinstance(source, Video)
    return list(video_frames(source, 0, reading or Reading(), QUICK))


def assert_brightness(frames: list[Frame]) -> None:
    """Every frame shows what its number says."""
    for frame in frames:
        assert frame.number is not None
        assert abs(float(frame.pixels.mean()) - brightness_of(frame.number)) < 6


@pytest.mark.parametrize(("name", "codec"), [("a film.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.avi", "mjpeg")])
def test_a_file_gives_its_frames_in_order(tmp_path: Path, name: str, codec: str) -> None:
    file = write_video(tmp_path / name, codec=codec)
    reading = Reading()
    frames = frames_of(file, reading)
    assert [frame.number for frame in frames] == list(range(20))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 25 for number in range(20)], abs=1e-3)
    assert all(frame.pixels.shape == (48, 64, 3) and not frame.live for frame in frames)
    assert_brightness(frames)
    assert (reading.read, reading.skipped, reading.reopened) == (20, 0, 0)
    assert expected_frames(Video(name, str(file), "file")) == 20


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_a_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "take 12:30.mp4", frames=2)
    assert len(list(frames_of("take 12:30.mp4"))) == 2


def test_every_third_frame(tmp_path: Path) -> None:
    frames = frames_of(write_video(tmp_path / "a.mp4"), Reading(every=3))
    assert [frame.number for frame in frames] == [0, 3, 6, 9, 12, 15, 18]
    assert_brightness(frames)


def test_folders_and_lists_mix_pictures_and_videos(tmp_path: Path) -> None:
    write_video(tmp_path / "b.mp4", frames=2)
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    (tmp_path / "damaged.png").write_bytes(b"none")
    reading = Reading()
    frames = frames_of([tmp_path, np.zeros((4, 5, 3), np.uint8)], reading)
    assert [(frame.source_index, frame.number) for frame in frames] == [(0, None), (1, 0), (1, 1), (3, None)]
    assert reading.skipped == 1


def test_damaged_frames_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_video(tmp_path / "a.avi", frames=30, codec="mjpeg")
    content = bytearray(file.read_bytes())
    starts = [place for place in range(len(content)) if content[place : place + 3] == b"\xff\xd8\xff"]
    for number in (4, 5, 20):
        content[starts[number] : starts[number + 1] - 20] = bytes(starts[number + 1] - 20 - starts[number])
    file.write_bytes(content)
    reading = Reading()
    with caplog.at_level(logging.WARNING, "detrofit"):
        frames = frames_of(file, reading)
    assert reading.skipped == 3 and len(frames) == 27
    assert [frame.number for frame in frames] == [n for n in range(30) if n not in (4, 5, 20)]
    assert_brightness(frames)
    assert "left out: frame 4 of" in caplog.text


def test_a_film_that_was_taken_sideways_is_turned(tmp_path: Path) -> None:
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:, 32:] = 200  # bright on the right
    file = write_pictures(tmp_path / "a.mp4", [picture] * 2, (32, 64))
    content = bytearray(file.read_bytes())
    start = content.index(b"tkhd") + 4 + 40  # the matrix of the only track: version 0 has 40 bytes before it
    one, minus = (0x10000).to_bytes(4, "big"), (-0x10000 & 0xFFFFFFFF).to_bytes(4, "big")
    assert content[start : start + 4] == one
    zero = bytes(4)
    content[start : start + 20] = zero + one + zero + minus + zero  # a quarter clockwise, as phones write it
    file.write_bytes(content)
    for frame in frames_of(file):
        assert frame.pixels.shape == (64, 32, 3)
        assert frame.pixels[:28].mean() < 20 and frame.pixels[36:].mean() > 180, "what was right is below now"


def test_a_recording_behind_an_address_goes_on_where_it_broke(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.mkv", frames=30, codec="mjpeg").read_bytes()
    whole = len(content)
    reading = Reading()
    with breaking_server(content, [whole // 3, 2 * whole // 3, whole], says_length=True) as server:
        frames = from_address(server.address, reading)
        assert server.answered == 3
    assert [round((frame.seconds or 0) * 25) for frame in frames] == list(range(30)), "each frame once"
    assert reading.reopened == 2 and not any(frame.live for frame in frames)


def test_a_live_stream_is_opened_again_until_it_stays_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = write_video(tmp_path / "a.ts", form="mpegts").read_bytes()
    reading = Reading()
    frames = []
    with breaking_server(content, [len(content), len(content) * 2 // 3]) as server:
        (source,) = find_sources(server.address)
        with pytest.raises(StreamLost, match="did not come back in 3 attempts") as caught:
            for frame in video_frames(source, 0, reading, QUICK):  # type: ignore[arg-type]
                frames.append(frame)
        assert server.answered >= 5
    assert reading.reopened == 1 and all(frame.live for frame in frames) and len(frames) > 20
    assert "\n" not in str(caught.value) and "opening it again in" in caplog.text
    assert all(a.seconds <= b.seconds for a, b in itertools.pairwise(frames))  # type: ignore[operator]


def test_a_web_camera_that_sends_one_jpeg_after_another() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(file.getvalue())}\r\n\r\n".encode()
    content = (head + file.getvalue() + b"\r\n") * 8
    frames = []
    with breaking_server(content, [len(content)]) as server, pytest.raises(StreamLost):
        for frame in video_frames(find_sources(server.address)[0], 0, Reading(), QUICK):  # type: ignore[arg-type]
            frames.append(frame)
    assert len(frames) >= 6 and all(frame.live and frame.pixels.shape == (30, 40, 3) for frame in frames)


def test_the_pauses_double_up_to_a_bound() -> None:
    assert [BackOff(first=0.5, longest=3).pause(attempt) for attempt in range(4)] == [0.5, 1, 2, 3]


def test_reading_ends_while_it_waits_for_a_stream(tmp_path: Path) -> None:
    content = write_video(tmp_path / "a.ts", form="mpegts").read_bytes()
    reading = Reading()
    with breaking_server(content, [len(content)]) as server:
        (source,) = find_sources(server.address)
        frames = video_frames(source, 0, reading, BackOff(first=60))  # type: ignore[arg-type]
        next(frames)
        reading.stop.set()
        assert len(list(frames)) <= 20, "it does not sit out the minute"


def test_a_picture_behind_an_address_comes_once() -> None:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "JPEG")
    with breaking_server(file.getvalue(), [len(file.getvalue())], says_length=True) as server:
        assert len(from_address(server.address)) == 1


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("http://127.0.0.1:9/video", "http://127.0.0.1:9/video cannot be opened .*refused"),
        ("rtsp://me:secret@127.0.0.1:9/cam", "rtsp://me@127.0.0.1:9/cam cannot be opened"),
        ("http://nobody.invalid/video", "no host of that name"),
        (31, "there is no camera 31; cameras here:"),
    ],
)
def test_what_cannot_be_opened_is_one_line(source: object, words: str) -> None:
    if isinstance(source, int) and not sys.platform.startswith("linux"):
        pytest.skip("other systems number their cameras otherwise")
    with pytest.raises(DetrofitError, match=words) as caught:
        frames_of(source)
    assert "\n" not in str(caught.value) and "secret" not in str(caught.value)


def test_an_address_without_a_video_is_one_line() -> None:
    with (
        breaking_server(b"<html>no video</html>", [0]) as server,
        pytest.raises(DetrofitError, match=r"cannot be opened .*check the address"),
    ):
        from_address(server.address)
    with breaking_server(b"", []) as server, pytest.raises(DetrofitError, match="404"):
        from_address(server.address)


@pytest.mark.parametrize("content", [b"", b"no video " * 99])
def test_a_file_that_is_no_video_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DetrofitError, match=r"a\.mp4 is not a video that can be read"):
        frames_of(tmp_path / "a.mp4")


def test_a_file_with_sound_alone_is_one_line(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(DetrofitError, match="no pictures in it"):
        frames_of(tmp_path / "a.mkv")


def test_without_the_extra_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DetrofitError, match=r"needs 'av'.*detrofit\[video\]"):
        frames_of(tmp_path / "a.mp4")


FROM_INPUT = """
import sys
from detrofit.errors import DetrofitError
from detrofit.runtime.frames import Reading, read_frames
from detrofit.runtime.sources import find_sources
try:
    frames = list(read_frames(find_sources("-"), Reading()))
    print(len(frames), frames[0].pixels.shape, frames[-1].number)
except DetrofitError as error:
    print(error)
"""


def from_input(content: bytes) -> str:
    command = [sys.executable, "-c", FROM_INPUT]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout.decode().strip()


def test_standard_input_takes_a_video_or_a_picture(tmp_path: Path) -> None:
    assert from_input(write_video(tmp_path / "a.mkv").read_bytes()) == "20 (48, 64, 3) 19"
    picture = io.BytesIO()
    Image.new("RGB", (30, 20)).save(picture, "WEBP")
    assert from_input(picture.getvalue()) == "1 (20, 30, 3) None"


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_several_pictures_through_standard_input_are_not_taken_for_one(form: str) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (30, 20), "olive").save(picture, form)
    assert from_input(3 * picture.getvalue()).startswith("standard input has several pictures; send a series")


def test_standard_input_without_either_is_one_line() -> None:
    assert from_input(b"") == "standard input is empty; send a picture or a video through it"
    assert "is no picture and no video" in from_input(b"something else" * 99)
