from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime import backends
from detrofit.runtime.detector import Detector
from detrofit.runtime.stream import ResultStream
from tests.runtime.videos import write_video

DARK = np.zeros((20, 30, 3), np.uint8)


@pytest.fixture
def detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Detector:
    monkeypatch.setitem(backends.BACKENDS, ".fake", "tests.runtime.fake_backend:FakeBackend")
    (tmp_path / "best.fake").touch()
    return Detector(tmp_path / "best.fake")


def test_each_result_knows_its_frame(detector: Detector, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", frames=11)
    results = list(detector.stream([DARK, film], batch=4, every=2))
    assert [(found.source_index, found.frame) for found in results] == [
        (0, None), *((1, number) for number in range(0, 11, 2)),
    ]  # fmt: skip
    assert results[0].seconds is None and results[3].seconds == pytest.approx(0.16)
    assert results[3].source == str(film) and "film.mp4, frame 4 (64 x 48)" in repr(results[3])
    assert detector.backend.batch_sizes == [4, 3]  # type: ignore[attr-defined]
    assert results[3].plot().size == (64, 48), "it has its picture with it"


def test_pictures_give_what_the_detector_gives(detector: Detector) -> None:
    pictures = [np.full((20 + side, 30, 3), 40 * side, np.uint8) for side in range(6)]
    for streamed, found in zip(detector.stream(pictures, batch=4), detector(pictures), strict=True):
        np.testing.assert_array_equal(streamed.boxes_xyxy, found.boxes_xyxy)
        assert (streamed.names, streamed.source) == (found.names, found.source)


def test_how_many_to_expect(detector: Detector, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mkv", frames=10)
    assert detector.stream([DARK, film], every=3).expected() == 1 + 4
    assert detector.stream([DARK, "rtsp://camera/1"]).expected() is None


def test_damaged_pictures_are_left_out_unless_there_is_nothing_else(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"none")
    (tmp_path / "b.mp4").write_bytes(b"none")
    with pytest.raises(DetrofitError, match=r"b\.mp4 is not a video"):
        list(detector.stream(tmp_path / "b.mp4"))
    with pytest.raises(DetrofitError, match=r"b\.png is not a picture"):
        list(detector.stream(tmp_path / "b.png"))
    with pytest.raises(DetrofitError, match="none of the 2 sources could be read"):
        list(detector.stream(tmp_path))
    Image.fromarray(DARK).save(tmp_path / "c.png")
    results = detector.stream(tmp_path)
    assert [Path(found.source).name for found in results] == ["c.png"] and results.skipped == 2


def test_what_came_before_an_error_is_not_lost(detector: Detector, tmp_path: Path) -> None:
    results = detector.stream([DARK, DARK, "http://127.0.0.1:9/x"], batch=8)
    assert len([next(results), next(results)]) == 2
    with pytest.raises(DetrofitError, match=r"127\.0\.0\.1:9/x cannot be opened"):
        next(results)


def test_leaving_early_closes_what_is_open(detector: Detector, tmp_path: Path) -> None:
    film = write_video(tmp_path / "film.mp4", frames=200)
    with detector.stream(film) as results:
        next(results)
    assert not any(thread.name == "detrofit-reader" for thread in threading.enumerate())
    film.unlink()
    with pytest.raises(StopIteration):
        next(results)


def test_a_signal_handler_may_stop_it(detector: Detector, tmp_path: Path) -> None:
    results = detector.stream(write_video(tmp_path / "film.mp4", frames=200))
    seen = 0
    for seen, _ in enumerate(results, start=1):  # noqa: B007 - the last one counts
        results.stop()
    assert seen == 1


def test_a_video_is_no_picture_to_call_the_detector_with(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"for found in detector\.stream"):
        detector(write_video(tmp_path / "film.mp4", frames=1))


def test_a_stream_that_is_never_used_starts_nothing(detector: Detector) -> None:
    results = detector.stream([DARK])
    assert isinstance(results, ResultStream)
    results.close()
    assert not any(thread.name == "detrofit-reader" for thread in threading.enumerate())
