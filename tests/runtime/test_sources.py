from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detrofit.errors import DetrofitError
from detrofit.runtime.sources import Video, find_pictures, find_sources, is_single

ARRAY = np.zeros((4, 6, 3), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures beside a text, and one picture a folder deeper."""
    root = tmp_path / "my pictures [1]"
    (root / "deeper").mkdir(parents=True)
    for name in ("b.JPG", "a.png", "deeper/c.jpg"):
        Image.fromarray(ARRAY).save(root / name)
    (root / "notes.txt").write_text("no picture")
    return root


def names(source: object) -> list[str]:
    return [Path(picture.name).name for picture in find_pictures(source)]  # type: ignore[arg-type]


def test_a_folder_gives_its_own_pictures_by_name(folder: Path) -> None:
    assert names(folder) == names(str(folder)) == ["a.png", "b.JPG"]


def test_a_glob_gives_pictures_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert names("*") == ["a.png", "b.JPG"]
    assert names("**/*.jpg") == ["c.jpg"]


def test_a_path_with_the_letters_of_a_glob_is_taken_as_it_stands(folder: Path) -> None:
    assert names(folder / "a.png") == ["a.png"]
    assert is_single(folder / "a.png") and not is_single(folder)


def test_a_list_keeps_its_order_and_may_mix_kinds(folder: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(ARRAY).save(buffer, format="PNG")
    pictures = find_pictures([ARRAY, folder / "b.JPG", buffer.getvalue(), Image.fromarray(ARRAY), [folder]])
    assert [Path(picture.name).name for picture in pictures] == [
        "image 0",
        "b.JPG",
        "image 1",
        "image 2",
        "a.png",
        "b.JPG",
    ]
    assert all(picture.decode().shape == (4, 6, 3) for picture in pictures)


def test_a_file_that_is_no_picture_is_named_when_it_is_decoded(folder: Path) -> None:
    (folder / "text.jpg").write_text("no picture")
    pictures = find_pictures(folder)
    with pytest.raises(DetrofitError, match=r"text\.jpg"):
        pictures[-1].decode()


def test_sources_without_pictures_say_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "outer" / "inner").mkdir(parents=True)
    Image.fromarray(ARRAY).save(tmp_path / "outer" / "inner" / "a.png")
    for source, message in {
        str(tmp_path / "empty"): "no pictures in the folder",
        str(tmp_path / "outer"): "lie in folders of it",
        str(tmp_path / "absent.jpg"): "no file or folder at",
        str(tmp_path / "*.jpg"): "no picture matches",
        (): "no pictures were given",
        3.5: "a float is no picture",
        memoryview(b"\x89PNG"): "a memoryview is no picture; give a path, bytes",  # and no list of cameras
        -1: "no camera -1",
    }.items():
        with pytest.raises(DetrofitError, match=message) as caught:
            find_pictures(source)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


def test_a_signed_address_may_be_longer_than_any_file_name() -> None:
    address = f"https://bucket.example/film.mp4?signature={'a' * 900}"
    [found] = find_sources(address)
    assert isinstance(found, Video) and found.target == address and not is_single(address)


def test_a_tensor_is_told_to_be_an_array() -> None:
    class Tensor:
        def __array__(self) -> np.ndarray:
            return ARRAY

        def __iter__(self) -> object:
            return iter([self])

    with pytest.raises(DetrofitError, match="a Tensor is no picture; give a path, bytes, a Pillow image, an array"):
        find_sources(Tensor())  # type: ignore[arg-type]
