"""Files of results that grow result by result, in flat memory, and are there whole or not at all."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from detrofit.errors import DetrofitError, nearest
from detrofit.files import atomic_write, write_file
from detrofit.runtime.frames import check_video_extra
from detrofit.runtime.results import COLUMNS, Detections
from detrofit.runtime.sources import Picture, Video

KINDS = ("plot", "coco", "yolo", "csv")
LABELS = "labels"  # the folder of YOLO's text files

Add: TypeAlias = Callable[[Detections, str], object]  # takes a result, and what its files are called


class ResultWriters:
    """Writes results into a folder, in the chosen forms; nothing is made before the first result.

    plot: `STEM.jpg` for a picture, `STEM.mp4` for a video. coco: `predictions.json`. yolo: `labels/STEM.txt`, for
    frames `labels/STEM_NUMBER.txt`, and the names of the classes in `classes.txt`. csv: `predictions.csv`. To be used
    in a `with`; leaving it by an error leaves no file that would be incomplete.

    Args:
        folder: where to; made when it is needed.
        kinds: some of KINDS.
        sources: what the results will be of.
        class_names, category_ids: by contiguous class id.

    Raises DetrofitError for an unknown kind, or where a file would take the place of one of the sources.
    """

    def __init__(
        self,
        folder: Path,
        kinds: Sequence[str],
        sources: Sequence[Picture | Video],
        class_names: Sequence[str],
        category_ids: Sequence[int],
    ) -> None:
        made: dict[str, Callable[[], AbstractContextManager[Add]]] = {
            "plot": lambda: plot_files(folder),
            "coco": lambda: coco_file(folder / "predictions.json", class_names, category_ids),
            "yolo": lambda: yolo_files(folder, class_names),
            "csv": lambda: csv_file(folder / "predictions.csv"),
        }
        for kind in kinds:
            if kind not in made:
                raise DetrofitError(f"nothing is saved as '{kind}'; known are {', '.join(KINDS)}{nearest(kind, KINDS)}")
        self._stems = unique_stems(sources)
        _refuse_overwriting(folder, kinds, sources, self._stems)
        self._to_open = [made[kind] for kind in dict.fromkeys(kinds)]
        self._open: list[Add] = []
        self._stack = ExitStack()

    def __enter__(self) -> ResultWriters:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, found: Detections) -> None:
        """Write one result in every form."""
        while self._to_open:
            self._open.append(self._stack.enter_context(self._to_open.pop(0)()))
        for add in self._open:
            add(found, self._stems[found.source_index])


def unique_stems(sources: Sequence[Picture | Video]) -> list[str]:
    """What the files of each source are called: its own name without ending, as labels must be to go with pictures.

    All are numbered where two would be called the same, also by a system that ignores case, or by a frame of a video.
    """
    stems = [_stem(source) for source in sources]
    differ = len({stem.casefold() for stem in stems}) == len(stems)
    if len(stems) == 1 or (differ and all(isinstance(source, Picture) for source in sources)):
        return stems
    return [f"{number:05d}_{stem}" for number, stem in enumerate(stems, start=1)]


def _stem(source: Picture | Video) -> str:
    name = source.name.split("?")[0].rstrip("/") if isinstance(source, Video) else source.name
    stem = Path(name).stem or "source"
    return "".join(letter if letter.isalnum() or letter in "._-() +" else "_" for letter in stem)


def _refuse_overwriting(
    folder: Path, kinds: Sequence[str], sources: Sequence[Picture | Video], stems: Sequence[str]
) -> None:
    given = {Path(source.name).resolve() for source in sources}
    for source, stem in zip(sources, stems, strict=True):
        plot = folder / f"{stem}{'.mp4' if isinstance(source, Video) else '.jpg'}"
        if "plot" in kinds and plot.resolve() in given:
            raise DetrofitError(f"the plot would take the place of {plot}; name another folder with --out")
        labels = folder / LABELS / f"{stem}.txt"
        if "yolo" in kinds and isinstance(source, Picture) and labels.exists() and _is_label_of(labels, source):
            raise DetrofitError(f"what is found would take the place of the labels {labels}; give another --out")


def _is_label_of(file: Path, source: Picture) -> bool:
    """Whether a data set in YOLO's form has the labels of a picture there: beside it, or in `labels` for `images`."""
    picture = Path(source.name).resolve()
    places, parts = {picture}, list(picture.parts)
    if "images" in parts[:-1]:
        last = max(place for place, part in enumerate(parts[:-1]) if part == "images")
        places.add(Path(*parts[:last], LABELS, *parts[last + 1 :]))
    return file.resolve() in {place.with_suffix(".txt") for place in places}


@contextmanager
def plot_files(folder: Path) -> Iterator[Add]:
    """An annotated picture for each picture, an annotated video for each video."""
    with ExitStack() as open_video:
        video: Any = None
        source_index = -1

        def add(found: Detections, stem: str) -> None:
            nonlocal video, source_index
            if found.source_index != source_index:
                open_video.close()
                video, source_index = None, found.source_index
            if found.frame is None:
                found.save(folder / f"{stem}.jpg")
                return
            if video is None:
                video = open_video.enter_context(_annotated_video(folder / f"{stem}.mp4", found.size))
            video.add(found.plot(), found.seconds)

        yield add


def _annotated_video(target: Path, size: tuple[int, int]) -> AbstractContextManager[Any]:
    check_video_extra()
    from detrofit.runtime.annotated_video import annotated_video

    return annotated_video(target, size)


@contextmanager
def coco_file(target: Path, class_names: Sequence[str], category_ids: Sequence[int]) -> Iterator[Add]:
    """One JSON file as those of data: images (with frame and seconds, for a video), annotations (with scores) and
    categories."""
    with (
        atomic_write(target) as temporary,
        temporary.open("w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=target.parent) as annotations,
    ):
        numbers, keys = itertools.count(1), itertools.count(1)
        before_image, before_annotation = (itertools.chain([""], itertools.repeat(",\n")) for _ in range(2))

        def add(found: Detections, stem: str) -> None:
            number = next(numbers)
            file.write(next(before_image) + json.dumps(_coco_image(number, found), ensure_ascii=False))
            for annotation in found.to_coco(number, category_ids):
                width, height = annotation["bbox"][2:]
                whole = {"id": next(keys), **annotation, "area": width * height, "iscrowd": 0}
                annotations.write(next(before_annotation) + json.dumps(whole))

        file.write('{"images": [')
        yield add
        file.write('],\n"annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        categories = [{"id": key, "name": name} for key, name in zip(category_ids, class_names, strict=True)]
        file.write('],\n"categories": ' + json.dumps(categories, ensure_ascii=False) + "}\n")


def _coco_image(number: int, found: Detections) -> dict[str, Any]:
    height, width = found.size
    image: dict[str, Any] = {"id": number, "file_name": found.source, "height": height, "width": width}
    if found.frame is not None:
        image |= {"frame": found.frame, "seconds": found.seconds and round(found.seconds, 3)}
    return image


@contextmanager
def csv_file(target: Path) -> Iterator[Add]:
    """One table with a row a detection."""
    with atomic_write(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS, lineterminator="\n")
        writer.writeheader()
        yield lambda found, stem: writer.writerows(found.to_rows())


@contextmanager
def yolo_files(folder: Path, class_names: Sequence[str]) -> Iterator[Add]:
    """A text file for each picture or frame, and one with the names of the classes."""
    write_file(folder / "classes.txt", "".join(f"{name}\n" for name in class_names))

    def add(found: Detections, stem: str) -> None:
        name = stem if found.frame is None else f"{stem}_{found.frame:06d}"
        write_file(folder / LABELS / f"{name}.txt", found.to_yolo_txt())

    yield add
