"""Shares of recall, in percent: what an attack takes, what a defense brings back and what it costs.

Every share is of the mean R@10 of both directions after the last epoch, and pairs victims of one seed: what the seed
alone decides, such as how well a clean victim does, drops out. The spread of a share is therefore that of its pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from benchmark.grid.records import EpochScores, Record
from benchmark.tables.iqm import Run
from benchmark.tables.table import Caution, EpochChoice, Observation, all_of, chosen

KEPT, LOST, RECOVERED = "kept %", "lost %", "recovered %"
MEANINGFUL = 20  # percent of the clean recall that an attack has to take before defenses against it are ranked

Shares = Mapping[int, float]
"""Percent by seed."""


def recall_by_seed(records: Iterable[Record]) -> dict[int, float]:
    """Mean of both directions' R@10 after the last epoch, percent, by seed; failed records are left out."""
    return {record.seed: record.last.test.mean_recall_at_10 for record in records if record.status == "done"}


def lost(attacked: Sequence[Record], clean: Sequence[Record]) -> Shares:
    """Share of the clean victim's recall that an attack takes."""
    return {seed: 100 * (1 - share) for seed, share in _ratios(attacked, clean).items()}


def kept(defended: Sequence[Record], clean: Sequence[Record]) -> Shares:
    """Share of the clean victim's recall that a victim keeps."""
    return {seed: 100 * share for seed, share in _ratios(defended, clean).items()}


def recovered(defended: Sequence[Record], attacked: Sequence[Record], clean: Sequence[Record]) -> Shares:
    """Share of the lost recall that a defense brings back: the sum of gains over seeds by the sum of losses over seeds.

    A mean of each seed's own share would depend on a seed that loses next to nothing, where any change is many times
    the loss. The values returned are those whose mean is the ratio R of the sums and whose deviations are its
    residuals: for a seed that gains d of the recall l that it lost, R + (d - R l) / mean(l).
    There are none where the attack takes less than :data:`MEANINGFUL` percent of the recall on these seeds.
    """
    under_defense, under_attack, full = (recall_by_seed(records) for records in (defended, attacked, clean))
    seeds = sorted(under_defense.keys() & under_attack.keys() & full.keys())
    gains = {seed: under_defense[seed] - under_attack[seed] for seed in seeds}
    losses = {seed: full[seed] - under_attack[seed] for seed in seeds}
    mean_loss = fmean(losses.values()) if seeds else 0.0
    # What is taken on these seeds alone counts: a defense may have run on few of them.
    if mean_loss <= 0 or not is_ranked([record for record in attacked if record.seed in losses], clean):
        return {}
    ratio = fmean(gains.values()) / mean_loss
    return {seed: 100 * (ratio + (gains[seed] - ratio * losses[seed]) / mean_loss) for seed in seeds}


def is_ranked(attacked: Sequence[Record], clean: Sequence[Record]) -> bool:
    """Whether an attack takes enough recall for shares of the loss to be compared."""
    shares = lost(attacked, clean).values()
    return bool(shares) and fmean(shares) >= MEANINGFUL


def unpaired(records: Iterable[Record], clean: Iterable[Record]) -> list[Caution]:
    """A note where seeds count in no share, because their clean victim is missing."""
    without = sorted(recall_by_seed(records).keys() - recall_by_seed(clean).keys())
    if not without:
        return []
    seeds = f"seed{'s' if len(without) > 1 else ''} {all_of(without)}"
    return [Caution(f"Shares of the clean recall leave out {seeds}, of which no clean, undefended victim is done.")]


def paired_runs(records: Iterable[Record], clean: Iterable[Record], at: EpochChoice = "last") -> dict[int, Run]:
    """Victims beside the clean victims of their seeds, for intervals over seeds and queries; by seed.

    Args:
        records: of one attack under one defense.
        clean: of clean victims without a defense.
        at: which epoch's recall of either.
    """
    full = {record.seed: scores.test.mean_recall_at_10 for record in clean if (scores := _done_at(record, at))}
    return {
        record.seed: Run(
            recall=scores.test.mean_recall_at_10,
            clean=full[record.seed],
            images=record.dataset.params["test_images"],
            test_set=record.seed if record.dataset.params.get("per_seed") else 0,
        )
        for record in records
        if full.get(record.seed) and (scores := _done_at(record, at))
    }


def _done_at(record: Record, at: EpochChoice) -> EpochScores | None:
    return chosen(record, at) if record.status == "done" else None


def observe_shares(records: Iterable[Record], row: str, column: str, measure: str, shares: Shares) -> list[Observation]:
    """The shares of some records as observations for one cell of a table."""
    return [
        Observation(
            row=row,
            column=column,
            measure=measure,
            unit="%",
            attack=record.attack.spec,
            defense=record.defense.spec,
            value=shares.get(record.seed),
            failed=record.status == "failed",
        )
        for record in records
    ]


def _ratios(records: Sequence[Record], clean: Sequence[Record]) -> dict[int, float]:
    full = recall_by_seed(clean)
    return {seed: recall / full[seed] for seed, recall in recall_by_seed(records).items() if full.get(seed)}
