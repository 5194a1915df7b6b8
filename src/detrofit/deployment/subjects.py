"""What a benchmark times: model files and models of the zoo, each with a runtime and a precision."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detrofit.errors import DetrofitError, nearest
from detrofit.runtime.detector import Detector
from detrofit.runtime.exported import Precision

RUNTIMES = {"torch": ".safetensors", "onnxruntime": ".onnx", "openvino": ".xml"}
HALF = ":half"
_CLASSES, _SIDE, _BEST = 80, 640, "best.safetensors"


@dataclass(frozen=True)
class Subject:
    """A file and how to run it.

    Attributes:
        variant: what people call it.
        half: as for `Detector`.
        size: height and width in pixels, where they are not the file's own.
    """

    variant: str
    file: Path
    half: bool | None = None
    size: tuple[int, int] | None = None
    plugins: tuple[Path, ...] = ()

    @property
    def runtime(self) -> str:
        return next(name for name, suffix in RUNTIMES.items() if suffix == self.file.suffix.lower())

    def detector(self, device: str | None, threads: int | None) -> Detector:
        """A detector of the file; DetrofitError if it cannot be opened, or not at this size."""
        detector = Detector(self.file, device=device, plugins=self.plugins, half=self.half, threads=threads)
        height, width = detector.backend.input_size
        if self.size is not None and self.size != (height, width):
            if self.runtime != "torch":
                raise DetrofitError(f"{self.file} takes {height},{width} and nothing else; export it at the other size")
            detector.backend.input_size = self.size
        return detector


def find_subjects(
    texts: Sequence[str],
    runtimes: Sequence[str],
    size: tuple[int, int] | None,
    folder: Path,
    plugins: Sequence[Path] = (),
) -> list[Subject]:
    """What `texts` name: model files, run folders and models of the zoo, each maybe as NAME=FILE.

    An exported file is run by its own runtime, everything else by each of `runtimes` (default: torch), for which it is
    exported into `folder`. `:half` after a runtime asks for half precision. A model of the zoo has random weights.

    Raises DetrofitError for what is neither, or a runtime that is not known or does not run the file.
    """
    for runtime in runtimes:
        name = runtime.removesuffix(HALF)
        if name not in RUNTIMES:
            raise DetrofitError(
                f"there is no runtime '{name}'{nearest(name, RUNTIMES)}; known are {', '.join(RUNTIMES)}"
            )
    return [each for text in texts for each in _subjects_of(text, runtimes, size, folder, tuple(plugins))]


def _subjects_of(
    text: str, runtimes: Sequence[str], size: tuple[int, int] | None, folder: Path, plugins: tuple[Path, ...]
) -> Iterator[Subject]:
    variant, file = _named_file(text)
    file = file / _BEST if file.is_dir() else file
    if file.suffix.lower() not in RUNTIMES.values():
        file = _zoo_model(str(file), size, folder)
    elif not file.is_file():
        raise DetrofitError(f"no model file at '{file}'; check the path")
    if file.suffix.lower() != RUNTIMES["torch"]:
        yield from _of_exported(Subject(variant, file, size=size), runtimes)
        return
    for runtime in runtimes or ["torch"]:
        name, half = runtime.removesuffix(HALF), runtime.endswith(HALF)
        own = file if name == "torch" else _exported(file, name, half, size, folder, plugins)
        yield Subject(variant, own, half or None, size, plugins)


def _named_file(text: str) -> tuple[str, Path]:
    name, equals, file = text.partition("=")
    if equals and not Path(text).exists():
        return name, Path(file)
    path = Path(text)
    return (path.parent.name if path.stem == "best" and path.parent.name else path.stem), path


def _of_exported(subject: Subject, runtimes: Sequence[str]) -> Iterator[Subject]:
    fitting = [each for each in runtimes or [subject.runtime] if each.removesuffix(HALF) == subject.runtime]
    if not fitting:
        raise DetrofitError(f"{subject.file} is run by {subject.runtime}, not by {' or '.join(runtimes)}")
    for runtime in fitting:
        half = True if runtime.endswith(HALF) else None
        yield Subject(subject.variant, subject.file, half, subject.size)


def _zoo_model(name: str, size: tuple[int, int] | None, folder: Path) -> Path:
    from detrofit.config.models import build, model_names

    if name not in model_names():
        hint = nearest(name, model_names())
        raise DetrofitError(f"'{name}' is neither a model file ({', '.join(RUNTIMES.values())}) nor a model{hint}")
    from detrofit.weights.model_file import ModelInfo, save_model

    file = folder / f"{name}.safetensors"
    classes = tuple(f"class {number}" for number in range(_CLASSES))
    info = ModelInfo(name, classes, tuple(range(_CLASSES)), size or (_SIDE, _SIDE))
    save_model(file, build(name, num_classes=_CLASSES).eval(), info)
    return file


def _exported(
    file: Path, runtime: str, half: bool, size: tuple[int, int] | None, folder: Path, plugins: tuple[Path, ...]
) -> Path:
    from detrofit.deployment.export import write_exported
    from detrofit.deployment.onnx import ExportOptions

    precision: Precision = "half" if half else "float32"
    own_folder = tempfile.mkdtemp(dir=folder)  # since all run folders have a file of one name
    target = Path(own_folder, f"{file.stem}.{precision}{RUNTIMES[runtime]}")
    options = ExportOptions(size, precision=precision)
    return write_exported(target, file, "openvino" if runtime == "openvino" else "onnx", options, None, plugins).file
