"""Predictions of other tools: COCO results of the test split, scored with the study's own evaluator and resamples."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from detrofit.comparison.jobs import Record, is_done, record_name, write_record
from detrofit.comparison.splits import StudyData
from detrofit.data.open import open_dataset
from detrofit.evaluation.predictions import Predictions
from detrofit.files import write_file
from detrofit.version import __version__

KEPT = "external"  # folder of the study with the predictions that were scored


def external_records(
    files: Mapping[str, Sequence[Path]], data: StudyData, resamples: int, folder: Path, known: Mapping[str, Record]
) -> list[Record]:
    """A record for each file, which stands for a seed, of each name; what is among the `known` is not scored again.

    Raises DetrofitError for a file that is no COCO results, or names a picture or category that the data has not.
    """
    index = open_dataset(data.path).split(data.test_split)
    records = []
    for name, own in files.items():
        for seed, file in enumerate(own):
            predictions = Predictions.read(file, index)
            content = json.dumps([data.digest, data.test_split, resamples, predictions.to_coco(index)])
            identity = hashlib.sha256(content.encode()).hexdigest()
            record = {"variant": name, "seed": seed, "identity": identity, "detrofit": __version__, "status": "done"}
            if is_done(known.get(identity)):
                records.append({**known[identity], **record})
                continue
            from detrofit.comparison.worker import score_record

            kept = f"{KEPT}/{record_name(record)}.json.gz"
            write_file(folder / kept, gzip.compress(json.dumps(predictions.to_coco(index)).encode(), mtime=0))
            record |= {"predictions": kept, **score_record(index, predictions, resamples)}
            write_record(folder, record_name(record), record)
            records.append(record)
    return records
