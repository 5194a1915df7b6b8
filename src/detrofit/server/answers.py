"""The JSON that the server answers with."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from detrofit.drawing import colour_of
from detrofit.runtime.detector import Detector
from detrofit.runtime.results import Detections
from detrofit.server.limits import Limits
from detrofit.version import __version__


class Detection(BaseModel):
    """One found object; `box` is left, top, right, bottom in pixels of the picture."""

    label: int
    name: str
    score: float
    box: tuple[float, float, float, float]


class Answer(BaseModel):
    """What was found in a picture, the best first."""

    width: int
    height: int
    threshold: float
    detections: list[Detection]


class Health(BaseModel):
    """What the server runs, and what it takes."""

    status: Literal["ok"]
    detrofit: str
    model: str
    class_names: list[str]
    colours: list[str]
    input_width: int
    input_height: int
    threshold: float
    max_body_bytes: int
    max_pixels: int


def answer_of(found: Detections, threshold: float) -> Answer:
    """The detections of one picture."""
    height, width = found.size
    corners = found.boxes_xyxy.astype(float).round(2).tolist()
    columns = zip(found.labels.tolist(), found.names, found.scores.tolist(), corners, strict=True)
    detections = [
        Detection(label=label, name=name, score=round(score, 6), box=tuple(box)) for label, name, score, box in columns
    ]
    return Answer(width=width, height=height, threshold=threshold, detections=detections)


def health_of(detector: Detector, limits: Limits) -> Health:
    """What a server of this detector says about itself."""
    height, width = detector.backend.input_size
    return Health(
        status="ok",
        detrofit=__version__,
        model=detector.file.name,
        class_names=list(detector.class_names),
        colours=[colour_of(label) for label in range(len(detector.class_names))],
        input_width=width,
        input_height=height,
        threshold=detector.threshold,
        max_body_bytes=limits.body_bytes,
        max_pixels=limits.pixels,
    )
