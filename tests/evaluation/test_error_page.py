from __future__ import annotations

import re

import numpy as np

from detrofit.data.demo import draw_demo_dataset
from detrofit.data.open import open_dataset
from detrofit.evaluation.error_impact import analyse_errors
from detrofit.evaluation.error_page import save_error_page
from detrofit.evaluation.evaluate import evaluate
from detrofit.evaluation.predictions import Predictions


def test_the_page_shows_the_surest_alarm_and_the_largest_miss(tmp_path):
    data = draw_demo_dataset(tmp_path / "data", 0, pictures={"train": 1, "val": 3, "test": 1}, size=(96, 128))
    index = open_dataset(data).split("val")
    predictions = Predictions()
    for image in range(3):
        boxes, labels = index.boxes(image), index.labels_of(image)
        found = np.arange(len(boxes)) != int(index.areas_of(image).argmax()) if image == 0 else labels >= 0
        alarm = np.array([[0, 0, 3, 3]], np.float32)
        scores = np.r_[np.full(found.sum(), 0.9), 0.99 if image == 2 else 0.1]
        predictions.add(image, np.concatenate([boxes[found], alarm]), scores, np.r_[labels[found], 0])
    evaluation = evaluate(index, predictions)
    analysis = analyse_errors(index, predictions, 0.5)
    save_error_page(index, predictions, evaluation, analysis, tmp_path / "errors.html", "first on val")
    page = (tmp_path / "errors.html").read_text(encoding="utf-8")
    assert "The surest false alarms" in page and "The largest misses" in page
    assert "0.99: background" in page and "0.10: background" not in page
    assert len(re.findall(r'class="box missed"', page)) == 1
    assert not re.findall(r"https?://", page.replace("http://www.w3.org", "")), "the page asks for nothing outside"
