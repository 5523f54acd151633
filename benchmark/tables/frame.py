"""Records as a tidy data frame: a row a cell, its settings and final scores as columns."""

from collections.abc import Iterable
from dataclasses import fields

import pandas as pd

from benchmark.grid.record_layout import CHOSEN
from benchmark.grid.records import EpochScores, Record
from benchmark.metrics import RetrievalScores

_DIRECTIONS = {"i2t": "image_to_text", "t2i": "text_to_image"}


def records_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row for each record.

    Columns:

    - ``dataset``, ``attack``, ``defense``, ``victim`` and ``surrogate`` as written on the command line;
    - ``seed``, ``preset``, ``status``, ``key``, and ``loss``, the mean training loss of the last epoch in nats;
    - scores on clean test data after each of three chosen epochs: ``last_…``, the last epoch; ``best_on_clean_val_…``,
      the epoch with the highest mean R@10 on clean validation data, which a scraper does not have; and
      ``best_on_protected_…``, the epoch with the highest mean R@10 on a sample of the victim's own protected training
      data (missing in records from before there was such a sample). ``last_recall_at_10`` and the like are means of
      both directions, in percent. ``last_i2t_…`` (image→text) and ``last_t2i_…`` (text→image) end in ``recall_at_1``,
      ``recall_at_5`` or ``recall_at_10`` (percent), or in ``median_rank`` or ``mean_rank`` (1 is best);
    - ``psnr`` (dB) and ``ssim``, missing where no noise was added;
    - ``probe_trigger_auc`` and ``probe_noise_auc`` (see :mod:`benchmark.probes`), missing where nothing was probed;
    - ``craft_seconds`` and the like, the seconds of each stage.

    A failed cell has no scores.
    """
    return pd.DataFrame([_row(record) for record in records])


def _row(record: Record) -> dict[str, object]:
    row: dict[str, object] = {name: getattr(record, name).spec for name in CHOSEN}
    row |= {"seed": record.seed, "preset": record.provenance.get("preset"), "status": record.status, "key": record.key}
    if record.status == "done":
        row["loss"] = record.loss[-1] if record.loss else None
        row |= _scores("last", record.last) | _scores("best_on_clean_val", record.best_on_clean_val)
        row |= _scores("best_on_protected", record.best_on_protected)
    row |= {name: record.poison.get(name) for name in ("psnr", "ssim", "probe_trigger_auc", "probe_noise_auc")}
    return row | {f"{stage}_seconds": seconds for stage, seconds in record.seconds.items()}


def _scores(when: str, scores: EpochScores | None) -> dict[str, object]:
    row: dict[str, object] = {f"{when}_recall_at_10": scores.test.mean_recall_at_10 if scores else None}
    for short, direction in _DIRECTIONS.items():
        values = getattr(scores.test, direction) if scores else None
        row |= {f"{when}_{short}_{score.name}": getattr(values, score.name, None) for score in fields(RetrievalScores)}
    return row
