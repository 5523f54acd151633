"""What probes read from poisons (:mod:`benchmark.probes`): columns of the table of attacks, and a note."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmark.grid.records import Record
from benchmark.tables.table import Measure

_PARTS = {"trigger": "trigger", "noise": "δ"}
"""By its name in records, a part of a poison and its name in tables."""
_NAMED = 5  # words


def _measure(part: str) -> Measure:
    return Measure(f"AUC {_PARTS[part]}", "AUC", lambda record: record.poison.get(f"probe_{part}_auc"))


_MEASURES = tuple(_measure(part) for part in _PARTS)


def probe_measures(records: Iterable[Record]) -> list[Measure]:
    """The columns for which records have numbers; none for records from before poisons were probed."""
    known = list(records)
    return [each for each in _MEASURES if any(each.of(record) is not None for record in known)]


def probe_note(poisons: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """One line on what probes read from each attack's poisons; no line if none was probed.

    Args:
        poisons: by the attack's title, what the records say of its poisons, one for each seed.
    """
    sentences = []
    for title, of_attack in poisons.items():
        parts = []
        for part, name in _PARTS.items():
            probed = [poison for poison in of_attack if poison.get(f"probe_{part}_auc") is not None]
            if not probed:
                continue
            auc, shuffled = (fmean(poison[f"probe_{part}_{what}"] for poison in probed) for what in ("auc", "shuffled"))
            words = _words([poison[f"probe_{part}_words"] for poison in probed])
            parts.append(f"{name} {auc:.2f} (shuffled {shuffled:.2f}{words})")
        if parts:
            sentences.append(f"{title}: {', '.join(parts)}")
    if not sentences:
        return []
    return [
        "AUC: how well a probe predicts the words of held-out images' captions, from their trigger (naive Bayes) or "
        "from their δ (ridge regression); mean over words, 0.5 is chance. In brackets: the same after training on "
        f"shuffled captions; then, in quotation marks, the words that are read best. {'; '.join(sentences)}."
    ]


def _words(by_seed: Sequence[Mapping[str, float]]) -> str:
    """The words that are named in most seeds, with their mean AUC; those of a higher AUC first among equals."""
    values: dict[str, list[float]] = {}
    for words in by_seed:
        for word, auc in words.items():
            values.setdefault(word, []).append(auc)
    best = sorted(values, key=lambda word: (-len(values[word]), -fmean(values[word]), word))[:_NAMED]
    return f"; {', '.join(f'“{word}” {fmean(values[word]):.2f}' for word in best)}" if best else ""
