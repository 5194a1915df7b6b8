from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from detrofit.data.pictures import list_pictures, read_sizes
from detrofit.pictures import decode_picture
from tests.data.small_datasets import write_picture

XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{}"/></x:xmpmeta>'


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_sizes_are_those_of_the_upright_picture(tmp_path: Path, ending: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_picture(tmp_path / f"a.{ending}", 40, 30, exif=exif)
    height, width = decode_picture(path).shape[:2]
    assert read_sizes([str(path)]).tolist() == [[width, height]]
    assert width == (30 if orientation >= 5 else 40)


@pytest.mark.parametrize("orientation", [1, 6])
def test_an_orientation_in_the_text_of_a_png_counts_too(tmp_path: Path, orientation: int) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "x" * 50)
    text.add_itxt("XML:com.adobe.xmp", XMP.format(orientation))
    path = write_picture(tmp_path / "a.png", 40, 30, pnginfo=text)
    height, width = decode_picture(path).shape[:2]
    assert read_sizes([str(path)]).tolist() == [[width, height]]


def test_an_exif_block_after_the_pixels_counts_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write_picture(tmp_path / "a.png", 40, 30, exif=exif)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    tail = content.index(b"IEND") - 4
    assert start < tail
    path.write_bytes(content[:start] + content[end:tail] + content[start:end] + content[tail:])
    height, width = decode_picture(path).shape[:2]
    assert read_sizes([str(path)]).tolist() == [[width, height]] == [[30, 40]]


def test_what_is_no_picture_has_no_size(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    Image.new("RGB", (16, 16)).save(tmp_path / "icon.png", "ICO")  # of no format that training would decode
    names = ["text.jpg", "empty.png", "folder.png", "absent.jpg", "icon.png"]
    assert read_sizes([str(tmp_path / name) for name in names]).tolist() == [[0, 0]] * 5
    assert read_sizes([]).shape == (0, 2)


def test_pictures_are_listed_below_a_folder_but_not_hidden_ones(tmp_path: Path) -> None:
    for name in ("b.jpg", "a/c.PNG", "e.avif", "a/.hidden.jpg", ".cache/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    assert list_pictures(str(tmp_path)) == ["a/c.PNG", "b.jpg", "e.avif"]
