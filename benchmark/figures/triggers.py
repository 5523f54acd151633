"""The words that triggers are made of, and how often each is used."""

from collections.abc import Iterable

from matplotlib.figure import Figure

from benchmark.core.errors import UsageError
from benchmark.figures.style import BLUE, WIDTH, heading, in_lines, named, styled, told_apart
from benchmark.grid.records import Record
from benchmark.tables.selection import UNDEFENDED, Block, blocks, once_a_poison

_WORDS = 15
_ACROSS = 4  # panels side by side
_LETTERS = 20  # of a word, and of a title's line
_TITLE_LINES = 6  # of the attacks' names


def triggers(records: Iterable[Record]) -> dict[str, Figure]:
    """A figure for each data set and surrogate: the most frequent trigger words of each attack's first seed.

    Attacks with one and the same trigger, such as a poison and its half, share a panel.

    A share is a word's number of places among all places of all triggers of that poison, in percent.

    Args:
        records: of any runs; those without a trigger and defended ones are left out.

    Returns:
        Figures by file name.

    Raises:
        UsageError: no record names trigger words, or records that mix settings.
    """
    with_words = [r for r in records if r.defense.spec == UNDEFENDED and r.poison.get("trigger_word_count")]
    if not with_words:
        raise UsageError("these records hold no poison with a trigger; the figure needs one")
    found = told_apart(blocks(once_a_poison(with_words)))
    several = len({record.surrogate.spec for block in found for record in block.records}) > 1
    return {named("triggers", block, found): _draw(block, with_surrogate=several) for block in found}


def shares(record: Record) -> dict[str, float]:
    """The recorded words with their share of all places, percent, most frequent first."""
    places = record.poison["trigger_word_count"]
    return {word: 100 * count / places for word, count in record.poison["trigger_words"].items()}


def _draw(block: Block, *, with_surrogate: bool) -> Figure:
    shared: dict[tuple[object, ...], list[Record]] = {}
    for attack in block.attacks:
        first = block.of(attack.spec)[0]
        shared.setdefault((first.seed, *shares(first).items()), []).append(first)
    across = min(_ACROSS, len(shared))
    down = -(-len(shared) // across)
    with styled():
        figure = Figure(figsize=(WIDTH * max(2, across) / _ACROSS, 0.3 + 3.0 * down), layout="constrained")
        panels = list(figure.subplots(down, across, squeeze=False).flat)
        for axes, (record, *others) in zip(panels, shared.values(), strict=False):
            top = dict(list(shares(record).items())[:_WORDS])
            axes.barh(range(len(top)), list(top.values()), color=BLUE, height=0.7)
            axes.set_yticks(range(len(top)), [in_lines(word, _LETTERS, 1) for word in top])
            axes.tick_params(axis="y", length=0)
            axes.set_ylim(_WORDS - 0.5, -0.5)  # bars of one height, however many there are
            axes.set_xlabel("share, %")
            distinct = record.poison.get("distinct_trigger_words")
            names = in_lines(", ".join(one.attack.title for one in (record, *others)), _LETTERS, _TITLE_LINES)
            title = [names, f"seed {record.seed}", *([f"{distinct} words"] if distinct else [])]
            axes.set_title("\n".join(title), fontsize=8)
        for axes in panels[len(shared) :]:
            axes.set_axis_off()
        surrogate = f", surrogate {block.records[0].surrogate.spec}" if with_surrogate else ""
        heading(figure, f"Share of all words in triggers; {block.dataset.label}{surrogate}")
        return figure
