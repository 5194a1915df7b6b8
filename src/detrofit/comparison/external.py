"""Predictions of other tools: COCO results of the test split, scored with the study's own evaluator and resamples."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detrofit.comparison.jobs import Record, is_done, record_name, write_record
from detrofit.comparison.splits import StudyData
from detrofit.data.index import DetectionIndex
from detrofit.errors import DetrofitError
from detrofit.evaluation.predictions import Predictions
from detrofit.files import write_file
from detrofit.training.workers import usable_cores
from detrofit.version import __version__

KEPT = "external"  # folder of the study with the predictions that were scored


def read_external(files: Mapping[str, Sequence[Path]], index: DetectionIndex) -> dict[str, list[Predictions]]:
    """The predictions of each name, a file a seed.

    Raises DetrofitError for a file that is no COCO results, names a picture or category that the data has not, or says
    the same as another of its name, which would count one training as two.
    """
    found: dict[str, list[Predictions]] = {}
    for name, own in files.items():
        found[name] = [Predictions.read(file, index) for file in own]
        digests = [_digest(each.to_coco(index)) for each in found[name]]
        for place, digest in enumerate(digests):
            if (first := digests.index(digest)) < place:
                raise DetrofitError(
                    f"{own[first]} and {own[place]} hold the same predictions; each file of '{name}' stands for a "
                    "training of its own"
                )
    return found


def external_records(
    files: Mapping[str, Sequence[Path]], data: StudyData, resamples: int, folder: Path, known: Mapping[str, Record]
) -> list[Record]:
    """A record for each file of each name; what is among the `known` is not scored again.

    Raises DetrofitError as `read_external` does.
    """
    if not files:
        return []
    from detrofit.comparison.worker import score_record

    index = data.open_test()
    records = []
    for name, own in read_external(files, index).items():
        for seed, predictions in enumerate(own):
            found = predictions.to_coco(index)
            identity = _digest([data.digest, data.test_split, resamples, found])
            record = {"variant": name, "seed": seed, "identity": identity, "detrofit": __version__, "status": "done"}
            if is_done(known.get(identity)):
                records.append({**known[identity], **record})
                continue
            kept = f"{KEPT}/{record_name(record)}.json.gz"
            write_file(folder / kept, gzip.compress(json.dumps(found).encode(), mtime=0))
            record |= {"predictions": kept, **score_record(index, predictions, resamples, usable_cores())}
            record |= _doubts(index, predictions)
            write_record(folder, record_name(record), record)
            records.append(record)
    return records


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _doubts(index: DetectionIndex, predictions: Predictions) -> dict[str, Any]:
    """What may be wrong with predictions made elsewhere: pictures without any, and scores cut off at a threshold."""
    scores = [predictions.of(position)[1] for position in range(len(index))]
    lowest = min((float(each.min()) for each in scores if len(each)), default=0.0)
    return {"pictures_without_detections": sum(not len(each) for each in scores), "lowest_score": lowest}
