"""Figures as pure functions of records; samples need the poison and the data as well."""

from collections.abc import Callable, Iterable, Mapping

from matplotlib.figure import Figure

from benchmark.figures.curves import curves
from benchmark.figures.defenses import defenses
from benchmark.figures.lengths import lengths
from benchmark.figures.samples import samples
from benchmark.figures.sources import ArtifactPaths, PoisonMissing
from benchmark.figures.style import write
from benchmark.figures.triggers import triggers
from benchmark.grid.records import Record

FIGURES: Mapping[str, Callable[[Iterable[Record], ArtifactPaths], dict[str, Figure]]] = {
    "curves": lambda records, _: curves(records),
    "lengths": lambda records, _: lengths(records),
    "defenses": lambda records, _: defenses(records),
    "triggers": lambda records, _: triggers(records),
    "samples": samples,
}

__all__ = ["FIGURES", "ArtifactPaths", "PoisonMissing", "write"]
