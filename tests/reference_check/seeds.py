"""Records of one cell with given recalls, one seed each."""

from collections.abc import Sequence

from benchmark.grid.records import Record
from tests.tables.factory import record

SILENT = {"psnr": None}


def records(recalls: Sequence[float], first_seed: int = 1) -> list[Record]:
    """One seed each, with that mean recall; nothing is said of the noise."""
    return [
        record(recalls=(recall - 1, recall + 1), seed=seed, poison=SILENT)
        for seed, recall in enumerate(recalls, start=first_seed)
    ]
