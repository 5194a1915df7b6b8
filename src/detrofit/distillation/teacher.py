"""A trained model that a student learns from beside the targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from detrofit.errors import DetrofitError, nearest
from detrofit.model.fuse import fuse
from detrofit.model.output import DetectorOutput
from detrofit.weights.model_file import load_model, read_info


class Teacher:
    """A model in deploy form, whose class logits are put in the student's order.

    Args:
        model: of any shape.
        classes: for each class of the student its number in the model.
    """

    def __init__(self, model: nn.Module, classes: Sequence[int]) -> None:
        self.model = fuse(model).requires_grad_(False)
        self.classes = list(classes)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> DetectorOutput:
        """What it says about images float32 [B,3,H,W] in 0..1, H and W multiples of 32."""
        output: DetectorOutput = self.model(images)
        logits = output.prediction.logits[..., self.classes]
        return output._replace(prediction=output.prediction._replace(logits=logits))


def load_teacher(file: Path, class_names: Sequence[str], *, plugins: Iterable[Path] = ()) -> Teacher:
    """The teacher in a model file for a student of these classes.

    Raises DetrofitError for a file that cannot be read, or a model that does not know one of the classes.
    """
    known = read_info(file).class_names
    for name in class_names:
        if name not in known:
            raise DetrofitError(
                f"teacher {file} does not know the class '{name}' of the data{nearest(name, known)}; "
                f"it knows {', '.join(known)}"
            )
    return Teacher(load_model(file, plugins=plugins), [known.index(name) for name in class_names])
