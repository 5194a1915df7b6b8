from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from detrofit.errors import DetrofitError
from detrofit.evaluation.evaluate import evaluate
from detrofit.evaluation.predictions import Predictions
from tests.evaluation.scenes import make_index, random_scene

BOX = [10, 10, 60, 60]


def perfect(num_images: int) -> Predictions:
    predictions = Predictions()
    for position in range(num_images):
        predictions.add(position, np.array([BOX]), np.array([0.8]), np.array([1]))
    return predictions


def nothing(num_images: int) -> Predictions:
    predictions = Predictions()
    for position in range(num_images):
        predictions.add(position, np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    return predictions


def test_summary_is_finite_and_leaves_out_what_cannot_be_measured() -> None:
    summary = evaluate(make_index([[(BOX, 1)], [(BOX, 1)]]), perfect(2)).summary
    assert summary["AP"] == summary["AP_medium"] == summary["f1"] == pytest.approx(1.0)
    assert {"AP_small", "AP_large", "false_alarms_per_background_image"}.isdisjoint(summary)
    assert (summary["images"], summary["objects"], summary["background_images"]) == (2, 2, 0)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_background_pictures_count_false_alarms() -> None:
    summary = evaluate(make_index([[(BOX, 1)], [], []]), perfect(3)).summary
    assert summary["background_images"] == 2
    assert summary["false_alarms_per_background_image"] == 1.0


@pytest.mark.parametrize(("threshold", "alarms"), [(0.3, 1.0), (0.9, 0.0)])
def test_false_alarms_where_nothing_is_are_those_at_the_given_threshold(threshold: float, alarms: float) -> None:
    summary = evaluate(make_index([[], []]), perfect(2), threshold).summary
    assert (summary["threshold"], summary["false_alarms_per_background_image"]) == (threshold, alarms)


def test_rows_name_classes_with_their_original_ids_and_counts() -> None:
    evaluation = evaluate(make_index([[(BOX, 1), (BOX, 2)], [(BOX, 1)]]), perfect(2))
    rows = {row["class"]: row for row in evaluation.per_class}
    assert [row["category_id"] for row in evaluation.per_class] == [90, 3, 7]
    assert (rows["dog"]["images"], rows["dog"]["objects"], rows["dog"]["AP"]) == (2, 2, pytest.approx(1.0))
    assert np.isnan(rows["cat"]["AP"]) and rows["bird"]["recall"] == 0.0
    assert [row["objects"] for row in evaluation.per_size] == [0, 3, 0]


@pytest.mark.parametrize("images", [[[(BOX, 1)]], [[]], [[], [(BOX, 0)]]])
def test_nothing_found_and_nothing_to_find_can_be_shown_and_saved(images: list, tmp_path: Path) -> None:
    evaluation = evaluate(make_index(images), nothing(len(images)))
    evaluation.render(Console(file=io.StringIO()))
    evaluation.save(tmp_path)


def test_incomplete_or_foreign_predictions_are_refused() -> None:
    index = make_index([[(BOX, 1)], []])
    with pytest.raises(DetrofitError, match="only 1 of the 2 pictures"):
        evaluate(index, perfect(1))
    with pytest.raises(DetrofitError, match="3 pictures were predicted"):
        evaluate(index, perfect(3))
    predictions = Predictions()
    predictions.add(0, np.array([BOX]), np.array([0.5]), np.array([8]))
    predictions.add(1, np.zeros((0, 4)), np.zeros(0), np.zeros(0))
    with pytest.raises(DetrofitError, match="class 8, but the data has 3 classes"):
        evaluate(index, predictions)


@pytest.mark.parametrize("place", ["box", "score"])
def test_detections_that_are_not_finite_are_one_line(place: str) -> None:
    predictions = Predictions()
    box, score = np.array([BOX], np.float32), np.array([0.5])
    (box if place == "box" else score).flat[0] = np.nan
    predictions.add(0, box, score, np.array([1]))
    with pytest.raises(DetrofitError, match=r"a detection in .* is not finite: the model has diverged"):
        evaluate(make_index([[(BOX, 1)]]), predictions)


def test_saved_folder_holds_tables_and_plots(tmp_path: Path) -> None:
    index, predictions = random_scene(5, num_images=20)
    evaluation = evaluate(index, predictions)
    evaluation.save(tmp_path / "test split")
    saved = json.loads((tmp_path / "test split" / "evaluation.json").read_text())
    assert saved["summary"] == evaluation.summary
    assert np.array(saved["confusion"]["counts"]).shape == (4, 4)
    with (tmp_path / "test split" / "per_class.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == ["cat", "dog", "bird"]
    for name in ("precision_recall", "f1_threshold", "confusion_matrix"):
        with Image.open(tmp_path / "test split" / f"{name}.png") as image:
            assert min(image.size) > 400


def test_screen_shows_the_numbers_and_the_classes() -> None:
    index, predictions = random_scene(5, num_images=20)
    evaluation = evaluate(index, predictions)
    screen = io.StringIO()
    evaluation.render(Console(file=screen, width=120))
    for text in ("AP50", f"{evaluation.summary['AP50']:.3f}", "cat", "bird", "small", "background image"):
        assert text in screen.getvalue()


def test_hostile_class_names_are_printed_and_plotted_as_they_are(tmp_path: Path) -> None:
    names = ("[red]cat", "$x_1$ \\frac", "_狗")
    index, predictions = random_scene(5)
    index = make_index([[(BOX, 0), (BOX, 1)], [(BOX, 2)]], class_names=names)
    predictions = perfect(2)
    evaluation = evaluate(index, predictions)
    screen = io.StringIO()
    evaluation.render(Console(file=screen, width=120))
    assert all(name in screen.getvalue() for name in names)
    evaluation.save(tmp_path)
