"""`detrofit predict` as a person types it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from PIL import Image

from detrofit.cli import main
from tests.cli.typed import mistake
from tests.runtime.onnx_by_hand import describe, write_onnx_by_hand
from tests.runtime.videos import breaking_server, write_video


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A file that finds one box, whose score is the brightness of the picture."""
    return str(write_onnx_by_hand(tmp_path / "by hand.onnx", describe().model_dump_json()))


def typed(model: str, out: Path, *arguments: object) -> list[str]:
    return ["predict", model, *map(str, arguments), "--out", str(out), "--device", "cpu"]


def predict(model: str, out: Path, *arguments: object) -> int:
    return main(typed(model, out, *arguments))


def test_everything_that_can_be_saved(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "my pictures", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (50, 40), "white").save(folder / "a.png")
    write_video(folder / "b.mp4", frames=9)
    options = ["--save", "plot, coco,yolo,csv", "--batch", "4", "--every", "2", "--threads", "1"]
    assert predict(model, out, folder, *options) == 0
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"00001_a.jpg", "00002_b.mp4", "predictions.json", "predictions.csv", "classes.txt"} <= names
    assert {f"labels/00002_b_{number:06d}.txt" for number in (0, 2, 4, 6, 8)} <= names
    assert len(json.loads((out / "predictions.json").read_text())["images"]) == 6
    printed = capsys.readouterr().out
    assert "b.mp4" in printed and "6 pictures, 3 objects; plot, coco, yolo, csv in" in printed


def test_what_is_left_out_is_named_and_counted(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (50, 40), "white").save(folder / "a.png")
    (folder / "b.png").write_bytes(b"none")
    assert predict(model, tmp_path / "out", folder, "--save", "csv") == 0
    assert "1 picture, 1 object, 1 left out; csv in" in capsys.readouterr().out


def test_many_sources_are_summed_up(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (50, 40), "white").save(tmp_path / "a.png")
    assert predict(model, tmp_path / "out", *[tmp_path / "a.png"] * 25, "--save", "") == 0
    printed = capsys.readouterr().out
    assert "all others" in printed and "25 pictures, 25 objects" in printed and not (tmp_path / "out").exists()


def test_mistakes_are_one_line_and_leave_nothing(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "a.mp4").write_bytes(b"none")
    Image.new("RGB", (50, 40)).save(tmp_path / "a.png")
    for arguments, words in {
        (tmp_path / "a.mp4",): "a.mp4 is not a video that can be read",
        ("http://127.0.0.1:9/x",): "cannot be opened (Connection refused); check the address",
        ("rtps://host/x",): "did you mean 'rtsps'",
        (tmp_path / "absent.jpg",): "no file or folder at",
        (tmp_path / "a.png", "--save", "video"): "nothing is saved as 'video'; known are plot, coco, yolo, csv",
        (tmp_path / "a.png", "--every", "0"): "every is 0",
        (tmp_path, "--threads", "0"): "threads is 0",
        (tmp_path, "--half"): "computes in float32, as it was exported",
    }.items():
        assert words in mistake(capsys, *typed(model, out, *arguments))
    assert not out.exists()


def test_what_a_lost_stream_gave_is_kept(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    video = pytest.importorskip("detrofit.runtime.video", reason="PyAV is not installed")
    quick = video.BackOff(attempts=2, first=0.01)
    monkeypatch.setattr(video.video_frames, "__defaults__", (quick,))
    content = write_video(tmp_path / "a.ts", form="mpegts").read_bytes()
    with breaking_server(content, [len(content)]) as server:
        assert predict(model, tmp_path / "out", server.address, "--save", "coco") == 2
    printed = capsys.readouterr()
    assert "did not come back in 2 attempts" in printed.err.splitlines()[-1]
    assert len(json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]) > 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent otherwise on Windows")
def test_ctrl_c_keeps_what_was_found(model: str, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", frames=1500, size=(120, 160))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "detrofit", "predict", model, str(film), "--out", str(out), "--device", "cpu"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        while process.poll() is None and not list(out.glob(".film.mp4.*")):
            time.sleep(0.02)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and errors.strip().splitlines()[-1] == "interrupted", errors
    images = json.loads((out / "predictions.json").read_text())["images"]
    assert 0 < len(images) < 1500 and f"{len(images)} pictures" in printed
    av = pytest.importorskip("av")
    with av.open(str(out / "film.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == len(images), "the video can be played"


MEMORY = """
    import sys
    from detrofit.cli import main
    code = main(sys.argv[1:])
    print("peak", next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1], code)
"""


def peak_megabytes(model: str, film: Path, out: Path) -> float:
    """The most memory that a process held while it predicted on a film and saved everything but labels."""
    arguments = ["predict", model, str(film), "--out", str(out), "--save", "plot,coco,csv", "--device", "cpu"]
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    _, kilobytes, code = result.stdout.strip().splitlines()[-1].split()
    assert code == "0", result.stderr
    return int(kilobytes) / 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc, which is not here")
@pytest.mark.parametrize(
    ("short", "long"), [(20, 250), pytest.param(250, 15_000, marks=pytest.mark.slow, id="ten-minutes")]
)
def test_memory_does_not_grow_with_the_film(model: str, tmp_path: Path, short: int, long: int) -> None:
    size = (240, 320)
    peaks = [
        peak_megabytes(model, write_video(tmp_path / f"{frames}.mp4", frames, size), tmp_path / str(frames))
        for frames in (short, long)
    ]
    decoded = (long - short) * size[0] * size[1] * 3 / 2**20
    assert decoded > 45, "else it would prove nothing"
    assert peaks[1] < 400 and peaks[1] - peaks[0] < 24, f"{peaks} MB, where the frames alone have {decoded:.0f} MB"
