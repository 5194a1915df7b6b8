"""What an exported file says about itself, and the steps that the backends of exported files share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from detrofit.errors import DetrofitError

KEY = "detrofit"  # of the description in the file's own metadata
FORMAT: Literal[1] = 1

Precision = Literal["float32", "half", "int8"]
OUTPUTS = {"detections": ["boxes", "scores", "labels"], "raw": ["logits", "boxes"]}  # names, in their order


class ExportDescription(BaseModel):
    """What travels inside an exported file.

    Attributes:
        format: of this description.
        detrofit: the version that wrote the file.
        name: of the stock model.
        class_names, category_ids: by contiguous class id; the ids are those of the data set.
        input_size: height and width in pixels of the graph's input, float32 RGB in 0..1.
        resize: how a picture is brought to that size.
        mean, std: the normalisation; it happens inside the graph.
        threshold: score from which on a detection counts.
        max_detections: the most detections of one picture.
        batch: pictures at a time; None where any number goes.
        outputs: detections are boxes (xyxy in pixels of the input), scores and labels, best first; raw ones are
            logits and boxes (cxcywh in 0..1), one of each a query.
        sampler: how the decoder reads between cells.
        precision: what the graph computes in; half is float16, or bf16 where a processor has that instead.
        quantisation: how an int8 file was made: with what, calibrated on what, which part of it stays in float.
        parameters, flops: of the network in deploy form for one picture; two operations a multiply-add.
        exporter: what made the graph, with its versions.
        weights: SHA-256 of the file beside it that holds them; None where it holds them itself.
        parts: the part at each address of the model.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = FORMAT
    detrofit: str
    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    input_size: tuple[PositiveInt, PositiveInt]
    resize: Literal["stretch"] = "stretch"
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threshold: Annotated[float, Field(ge=0, le=1)]
    max_detections: PositiveInt
    batch: PositiveInt | None
    outputs: Literal["detections", "raw"]
    sampler: Literal["grid", "gather"]
    precision: Precision = "float32"
    quantisation: dict[str, Any] | None = None
    parameters: int | None = None
    flops: int | None = None
    exporter: dict[str, Any]
    weights: str | None = None
    parts: dict[str, str]

    @model_validator(mode="after")
    def _check_together(self) -> ExportDescription:
        if len(self.class_names) != len(self.category_ids):
            raise ValueError(f"{len(self.category_ids)} category ids for {len(self.class_names)} names of classes")
        return self


def parse_description(path: Path, read: Callable[[], str | None]) -> ExportDescription:
    """The description in the metadata that `read` finds in a file; DetrofitError if there is none or none of ours."""
    try:
        text = read()
    except UnicodeDecodeError:
        raise DetrofitError(f"{path} is damaged: what it says about itself is no text; export it anew") from None
    if text is None:
        raise DetrofitError(f"{path} has no description of Detrofit's; export it with `detrofit export`")
    try:
        return ExportDescription.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(piece) for piece in first["loc"])
        raise DetrofitError(
            f"the description in {path} does not fit this version: {key or 'all of it'}: {first['msg']}; export it anew"
        ) from None


class ExportedBackend(ABC):
    """Opens an exported file and runs it; see `detrofit.runtime.backends.Backend`. Its graph needs no plugins."""

    def __init__(
        self,
        path: Path,
        device: str | None = None,
        plugins: Sequence[Path] = (),
        *,
        half: bool | None = None,
        threads: int | None = None,
    ) -> None:
        self.description = description = self.open(path, device, half, threads)
        self.class_names, self.category_ids = description.class_names, description.category_ids
        self.input_size, self.threshold = description.input_size, description.threshold
        self.max_detections, self.batch = description.max_detections, description.batch
        if self.graph() != ([self.batch, 3, *self.input_size], OUTPUTS[description.outputs]):
            raise DetrofitError(f"{path} is damaged: its graph takes or gives other things than it says")

    @abstractmethod
    def open(self, path: Path, device: str | None, half: bool | None, threads: int | None) -> ExportDescription:
        """Make the file ready for `compute`; what it says about itself."""

    @abstractmethod
    def graph(self) -> tuple[list[int | None], list[str]]:
        """The shape of the input, None where any number goes, and the names of the outputs."""

    @abstractmethod
    def compute(self, pictures: np.ndarray) -> list[np.ndarray]:
        """The outputs of the graph, in its order, for uint8 `[B, H, W, 3]` of as many pictures as the file takes."""

    def __call__(self, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        size = self.batch or max(len(pictures), 1)
        chunks = [self._detect(pictures[start : start + size], size) for start in range(0, len(pictures), size)]
        boxes, scores, labels = (np.concatenate(each) for each in zip(*chunks, strict=True))
        return boxes, scores, labels

    def _detect(self, pictures: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The answer for at most `size` pictures; a batch that is not full is filled with black ones."""
        count = len(pictures)
        if count < size:
            pictures = np.concatenate([pictures, np.zeros((size - count, *pictures.shape[1:]), np.uint8)])
        outputs = [each[:count] for each in self.compute(pictures)]
        if self.description.outputs == "raw":
            logits, boxes_cxcywh = outputs
            return best_detections(logits, boxes_cxcywh, self.max_detections)
        boxes, scores, labels = outputs
        height, width = self.input_size
        return boxes / np.array([width, height, width, height], np.float32), scores, labels.astype(np.int64)


def best_detections(
    logits: np.ndarray, boxes_cxcywh: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best `count` pairs of a query and a class of raw outputs `[B,Q,C]` and `[B,Q,4]`: boxes xyxy, scores, labels.

    Boxes keep their unit. Pairs compete, so a query may come with several classes.
    """
    num_classes = logits.shape[-1]
    scores = np.exp(-np.logaddexp(0, -logits.reshape(len(logits), -1)))  # the sigmoid, without overflow
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    chosen = np.take_along_axis(boxes_cxcywh, (best // num_classes)[..., None], axis=1)
    half = chosen[..., 2:] / 2
    boxes = np.concatenate([chosen[..., :2] - half, chosen[..., :2] + half], axis=-1)
    return boxes, np.take_along_axis(scores, best, axis=1), best % num_classes
