from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit import pictures
from detrofit.errors import DetrofitError
from detrofit.pictures import decode_picture


def gradient(height: int = 40, width: int = 60) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width]
    blue = np.full_like(rows, 90)
    return np.stack([columns * 255 // width, rows * 255 // height, blue], axis=-1).astype(np.uint8)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    expected = gradient()
    image = Image.fromarray(expected)
    path = tmp_path / "a picture.png"
    image.save(path)
    for source in (path, str(path), path.read_bytes(), image, expected):
        decoded = decode_picture(source)
        assert decoded.dtype == np.uint8 and np.array_equal(decoded, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(gradient()).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    path = tmp_path / "picture.tif"
    image.save(path)
    decoded = decode_picture(path)
    assert decoded.shape == (40, 60, 3) and decoded.dtype == np.uint8
    if mode != "1":
        wanted = np.asarray(Image.fromarray(gradient()).convert("L"), dtype=float)
        got = np.asarray(Image.fromarray(decoded).convert("L"), dtype=float)
        assert np.abs(wanted - got).mean() < 12


def test_sixteen_bit_grey_keeps_the_high_byte() -> None:
    values = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    expected = np.array([0, 0, 1, 255], dtype=np.uint8)
    for source in (values, encoded(Image.fromarray(values), "PNG")):
        assert np.array_equal(decode_picture(source)[0, :, 0], expected)


def test_transparent_pixels_are_laid_on_white() -> None:
    rgba = np.zeros((2, 2, 4), dtype=np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    decoded = decode_picture(encoded(Image.fromarray(rgba), "PNG"))
    assert decoded[0, 0].tolist() == [10, 20, 30] and decoded[1, 1].tolist() == [255, 255, 255]


def test_exif_rotation_is_applied() -> None:
    exif = Image.Exif()
    exif[pictures.ORIENTATION_TAG] = 6
    data = encoded(Image.fromarray(gradient(40, 60)), "PNG", exif=exif)
    assert np.array_equal(decode_picture(data), np.rot90(gradient(40, 60), -1))


def test_one_pixel_is_a_picture() -> None:
    assert decode_picture(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).tolist() == [[[1, 2, 3]]]


def test_draft_is_never_smaller_than_asked_and_close_to_the_full_picture() -> None:
    data = encoded(Image.fromarray(gradient(400, 640)), "JPEG", quality=95)
    small = decode_picture(data, at_least=(100, 130))
    assert small.shape == (100, 160, 3)
    shrunk = np.asarray(Image.fromarray(decode_picture(data)).resize((160, 100), Image.Resampling.BOX), dtype=float)
    assert np.abs(shrunk - small).max() <= 3
    assert decode_picture(data, at_least=(201, 100)).shape == (400, 640, 3)


def test_draft_of_a_sideways_picture_counts_in_upright_pixels() -> None:
    exif = Image.Exif()
    exif[pictures.ORIENTATION_TAG] = 6
    data = encoded(Image.fromarray(gradient(400, 640)), "JPEG", exif=exif)
    assert decode_picture(data, at_least=(320, 200)).shape == (320, 200, 3)
    assert decode_picture(data, at_least=(320, 201)).shape == (640, 400, 3)


def broken_files() -> dict[str, bytes]:
    jpeg = encoded(Image.fromarray(gradient(200, 200)), "JPEG")
    png = encoded(Image.fromarray(gradient(200, 200)), "PNG")
    return {
        "text.jpg": b"this is no picture",
        "empty.jpg": b"",
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "garbled.png": png[:60] + b"\0" * 40 + png[100:],
        "float.tif": encoded(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"),
    }


@pytest.mark.parametrize("name", broken_files())
def test_a_broken_file_is_one_line_that_names_it(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(broken_files()[name])
    with pytest.raises(DetrofitError, match=name) as raised:
        decode_picture(path)
    assert "\n" not in str(raised.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DetrofitError, match=r"absent\.jpg: no such file"):
        decode_picture(tmp_path / "absent.jpg")
    with pytest.raises(DetrofitError, match="folder"):
        decode_picture(tmp_path)


def test_a_picture_beyond_the_limit_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(Image.fromarray(gradient(40, 60)), "PNG")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 2000)
    with pytest.raises(DetrofitError, match="60 x 40 pixels"):
        decode_picture(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DetrofitError, match="more than 2,000 pixels"):
        decode_picture(data)


def tiled_tiff(side: int) -> bytes:
    """A TIFF file of 8 x 8 pixels in one black tile of `side` x `side`."""
    tile = zlib.compress(bytes(side * side))
    short, long = 3, 4
    start = 8 + 2 + 10 * 12 + 4
    values = {256: 8, 257: 8, 258: 8, 259: 8, 262: 1, 277: 1, 322: side, 323: side, 324: start, 325: len(tile)}
    tags = b"".join(struct.pack("<HHII", tag, long if tag > 300 else short, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + tags + bytes(4) + tile


def test_a_tile_larger_than_any_picture_is_refused() -> None:
    assert decode_picture(tiled_tiff(16), max_pixels=256).shape == (8, 8, 3)
    with pytest.raises(DetrofitError, match="tiles of 32 x 32 pixels, more than 256; shrink it"):
        decode_picture(tiled_tiff(32), max_pixels=256)


def test_a_scan_that_is_repeated_for_ever_is_refused(tmp_path: Path) -> None:
    jpeg = encoded(Image.fromarray(gradient()), "JPEG", progressive=True, exif=b"Exif\0\0" + 200 * b"\xff\xda")
    assert decode_picture(jpeg).shape == (40, 60, 3), "what its header holds are no scans"
    assert decode_picture(jpeg + 200 * b"\xff\xda\0\2").shape == (40, 60, 3), "nor what comes after its end"
    last = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    assert decode_picture(jpeg[:-2] + 50 * last + jpeg[-2:]).shape == (40, 60, 3)
    path = tmp_path / "scans.jpg"
    path.write_bytes(jpeg[:-2] + 100 * last + jpeg[-2:])
    for source in (path, path.read_bytes()):
        with pytest.raises(DetrofitError, match="has more than 100 scans; shrink it"):
            decode_picture(source)


@pytest.mark.parametrize("shape", [(3, 8, 8), (8, 8, 2), (8,), (0, 8, 3)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DetrofitError, match="give uint8"):
        decode_picture(np.zeros(shape, dtype=np.uint8))


def test_a_picture_without_pixels_is_refused() -> None:
    with pytest.raises(DetrofitError, match="has 0 x 5 pixels"):
        decode_picture(Image.new("RGB", (0, 5)))


def test_an_array_of_another_type_is_refused() -> None:
    with pytest.raises(DetrofitError, match="float32"):
        decode_picture(np.zeros((8, 8, 3), dtype=np.float32))
