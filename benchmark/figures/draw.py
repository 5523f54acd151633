"""Draw several figures at once: what can be drawn is, and what cannot is named."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from benchmark.core.errors import UsageError
from benchmark.core.registry import unknown
from benchmark.figures import FIGURES
from benchmark.figures.curves import curves
from benchmark.figures.defenses import defenses
from benchmark.figures.epsilon import epsilon
from benchmark.figures.lengths import lengths
from benchmark.figures.matrix import matrix
from benchmark.figures.protected import protected
from benchmark.figures.samples import samples
from benchmark.figures.sources import ArtifactPaths
from benchmark.figures.triggers import triggers
from benchmark.grid.records import Record

_FROM_RECORDS: Mapping[str, Callable[[Iterable[Record]], dict[str, Figure]]] = {
    "defenses": defenses,
    "matrix": matrix,
    "lengths": lengths,
    "epsilon": epsilon,
    "protected": protected,
    "curves": curves,
    "triggers": triggers,
}


@dataclass(frozen=True)
class Problem:
    """Why a figure, or a part of its kind, was not drawn; ``str`` says it in one line.

    Attributes:
        name: a key of :data:`benchmark.figures.FIGURES`.
        error: what went wrong.
    """

    name: str
    error: UsageError

    def __str__(self) -> str:
        return f"{self.name}: {self.error}"


def draw_all(
    names: Iterable[str], records: Sequence[Record], sources: ArtifactPaths
) -> tuple[dict[str, Figure], list[Problem]]:
    """Draw figures; one that cannot be drawn keeps no other from being drawn.

    Args:
        names: keys of :data:`benchmark.figures.FIGURES`.
        records: of any runs.
        sources: where poisons and images are, for the samples.

    Returns:
        Figures by file name, and what could not be drawn.

    Raises:
        UsageError: unknown name.
    """
    figures: dict[str, Figure] = {}
    problems: list[Problem] = []
    for name in names:
        if name not in FIGURES:
            raise UsageError(unknown("figure", name, list(FIGURES)))
        try:
            if name == "samples":
                drawn, missing = samples(records, sources)
                problems += [Problem(name, error) for error in missing]
            else:
                drawn = _FROM_RECORDS[name](records)
        except UsageError as error:
            problems.append(Problem(name, error))
            continue
        figures |= drawn
    return figures, problems
