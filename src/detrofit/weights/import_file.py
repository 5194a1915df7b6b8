"""Making a model file of ours from another program's weights."""

from __future__ import annotations

from pathlib import Path

from detrofit.config.models import build
from detrofit.errors import DetrofitError
from detrofit.weights.foreign import Foreign, read_foreign
from detrofit.weights.model_file import ModelInfo, is_model_file, save_model

_INPUT_SIZE = (640, 640)  # what every published RT-DETR was trained at


def import_weights(source: Path, target: Path) -> Foreign:
    """Write the model file `target` from a file or Hugging Face folder `source`, and return what was found in it.

    Raises DetrofitError for weights of no known program, or of a model that is not in the zoo.
    """
    if source.is_file() and is_model_file(source):
        raise DetrofitError(f"{source} is a model file already; nothing to import")
    foreign = read_foreign(source)
    if foreign is None:
        raise DetrofitError(
            f"{source} holds weights of no known program; known are official RT-DETR and RT-DETRv2, Hugging Face, "
            "and Ultralytics RT-DETR"
        )
    model = build(foreign.model, num_classes=foreign.num_classes, settings=foreign.settings)
    model.load_state_dict(foreign.state)
    facts = {"imported_from": foreign.source, "licence": foreign.licence}
    ids = tuple(range(foreign.num_classes))
    save_model(target, model, ModelInfo(foreign.model, foreign.names, ids, _INPUT_SIZE, trained=facts))
    return foreign
