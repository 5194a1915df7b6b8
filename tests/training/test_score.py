from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from detrofit import DetrofitError
from detrofit.training.score import score_file
from detrofit.weights.model_file import save_model
from tests.deployment.models import draw_model, model_info


def test_a_split_without_pictures_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "images" / "val").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [cat]\n")
    file = tmp_path / "model.safetensors"
    save_model(file, draw_model("rtdetr-n", num_classes=1), model_info("rtdetr-n", (64, 64), ("cat",)))
    with pytest.raises(DetrofitError, match=r"the split 'val' of .*data\.yaml has no pictures"):
        score_file(file, tmp_path / "data.yaml", "val")
    assert not (tmp_path / "val-val").exists()


def test_pictures_without_objects_are_judged_at_the_threshold_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "images" / "val").mkdir(parents=True)
    Image.new("RGB", (64, 64), "gray").save(tmp_path / "images" / "val" / "empty.png")
    (tmp_path / "data.yaml").write_text("val: images/val\nnames: [cat]\n")
    file = tmp_path / "model.safetensors"
    info = model_info("rtdetr-n", (64, 64), ("cat",))
    save_model(file, draw_model("rtdetr-n", num_classes=1), info)
    _, evaluation = score_file(file, tmp_path / "data.yaml", "val", workers=0, device="cpu")
    assert evaluation is not None and evaluation.summary["threshold"] == info.threshold
