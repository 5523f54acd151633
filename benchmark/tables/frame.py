"""Records as a tidy data frame: a row a cell, its settings and final scores as columns."""

from collections.abc import Iterable

import pandas as pd

from benchmark.grid.records import EpochScores, Record
from benchmark.metrics import RetrievalScores

_DIRECTIONS = {"i2t": "image_to_text", "t2i": "text_to_image"}


def records_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record.

    Columns: ``dataset``, ``attack``, ``defense``, ``victim`` and ``surrogate`` as written on the command line,
    ``seed``, ``preset``, ``status``, ``key``, and ``loss`` (the last epoch's mean training loss, nats). Scores on clean
    test data follow, ``last_…`` of the last epoch and ``best_…`` of the epoch with the highest mean R@10 on validation
    data: in each direction (``i2t`` image→text, ``t2i`` text→image) ``recall_at_1``, ``recall_at_5`` and
    ``recall_at_10`` in percent, ``median_rank`` and ``mean_rank`` (1 is best), and ``last_recall_at_10`` and
    ``best_recall_at_10``, the means of both directions. Then ``psnr`` (dB; missing where no noise was added),
    ``probe_trigger_auc`` and ``probe_noise_auc`` (see :mod:`benchmark.probes`; missing where nothing was probed) and
    the seconds of each stage. A failed cell has no scores.
    """
    return pd.DataFrame([_row(record) for record in records])


def _row(record: Record) -> dict[str, object]:
    row: dict[str, object] = {
        name: getattr(record, name).spec for name in ("dataset", "attack", "defense", "victim", "surrogate")
    }
    row |= {"seed": record.seed, "preset": record.provenance.get("preset"), "status": record.status, "key": record.key}
    if record.status == "done":
        row["loss"] = record.loss[-1] if record.loss else None
        row |= _scores("last", record.last) | _scores("best", record.best)
    row |= {name: record.poison.get(name) for name in ("psnr", "probe_trigger_auc", "probe_noise_auc")}
    return row | {f"{stage}_seconds": seconds for stage, seconds in record.seconds.items()}


def _scores(when: str, scores: EpochScores) -> dict[str, object]:
    row: dict[str, object] = {f"{when}_recall_at_10": scores.test.mean_recall_at_10}
    for short, direction in _DIRECTIONS.items():
        values: RetrievalScores = getattr(scores.test, direction)
        row |= {f"{when}_{short}_{name}": value for name, value in vars(values).items()}
    return row
