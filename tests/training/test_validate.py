from __future__ import annotations

from pathlib import Path

import pytest
import torch

from detrofit.config.models import build
from detrofit.data.demo import draw_demo_dataset
from detrofit.data.open import open_dataset
from detrofit.errors import DetrofitError
from detrofit.training.devices import Devices
from detrofit.training.validate import validate


def test_a_model_that_has_diverged_is_told_in_one_line(tmp_path: Path) -> None:
    draw_demo_dataset(tmp_path / "data", pictures={"val": 2}, size=(64, 64))
    index = open_dataset(tmp_path / "data").split("val")
    model = build("rtdetr-n", num_classes=len(index.class_names)).eval()
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    norms[0].running_mean[0] = float("-inf")  # statistics overflow without any loss being other than finite
    with pytest.raises(DetrofitError, match="detections are not finite numbers: the training has diverged") as caught:
        validate(model, index, (64, 64), Devices("cpu"), batch=2, workers=0, max_detections=10)
    assert "\n" not in str(caught.value)
