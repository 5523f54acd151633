"""What a victim that has learned nothing scores, computed exactly, and which victims score hardly more."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, lgamma
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np

from benchmark.grid.records import Record
from benchmark.tables.selection import CLEAN, UNDEFENDED

_MOST_FACTORS = 1000  # of a product; with more, logarithms are taken, which need no memory

LEARNED = 0.05  # share of the way from chance to 100 % beyond which a victim has learned something
_CERTAIN = 99.0  # percent; where chance is higher, scores cannot tell whether anything was learned


class Chance(NamedTuple):
    """Scores of a random ranking in one direction: R@10 in percent and the median of the rank's distribution."""

    recall_at_10: float
    median_rank: int


def of_dataset(params: Mapping[str, Any]) -> tuple[Chance, Chance]:
    """Chance levels, image to text and text to image, of a record's data set."""
    images, captions = params["test_images"], params["test_captions"]
    return image_to_text(images, captions), text_to_image(images)


def near_chance(clean: Sequence[Record]) -> str:
    """Name victims of clean data that score hardly better than chance: no attack or defense can be judged on them.

    Args:
        clean: records of one data set and one victim, undefended.

    Returns:
        One sentence; "" where they have learned something, or none is done.
    """
    done = [record for record in clean if record.status == "done"]
    if not done:
        return ""
    levels = of_dataset(done[0].dataset.params)
    text = fmean(record.last.test.image_to_text.recall_at_10 for record in done)
    image = fmean(record.last.test.text_to_image.recall_at_10 for record in done)
    for recall, level in zip((text, image), levels, strict=True):
        floor = min(level.recall_at_10, _CERTAIN)
        if recall - floor > (100 - floor) * LEARNED:
            return ""
    return (
        f"Near chance: victim {done[0].victim.spec} has learned next to nothing even from clean data (R@10 "
        f"{text:.1f} I→T, {image:.1f} T→I; chance {levels[0].recall_at_10:.1f}, {levels[1].recall_at_10:.1f}), so "
        "nothing is ranked on it."
    )


def all_near_chance(records: Iterable[Record]) -> list[tuple[str, str]]:
    """The data set and the sentence of :func:`near_chance`, for each data set and victim that there is one for."""
    clean: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if (record.attack.spec, record.defense.spec) == (CLEAN, UNDEFENDED):
            clean[record.dataset.spec, record.victim.spec].append(record)
    return [(dataset, sentence) for (dataset, _), own in clean.items() if (sentence := near_chance(own))]


def image_to_text(images: int, captions: int) -> Chance:
    """Chance level of the best-ranked of an image's own captions among all captions.

    Args:
        images: number of test images.
        captions: number of their captions, at least one each, spread as evenly as the numbers allow.
    """
    few, more = divmod(captions, images)
    groups = [(size, count) for size, count in ((few, images - more), (few + 1, more)) if count]

    def within(rank: int) -> float:
        missed = sum(count * _all_behind(rank, size, captions) for size, count in groups)
        return 1 - missed / images

    return _chance(within, captions)


def text_to_image(images: int) -> Chance:
    """Chance level of a caption's own image among all images."""
    return _chance(lambda rank: rank / images, images)


def _all_behind(rank: int, size: int, captions: int) -> float:
    """Probability that all ``size`` captions of an image rank behind ``rank``: C(captions - rank, size) over
    C(captions, size), as a product or by logarithms, for the numbers themselves may have millions of digits.
    """
    few, many = sorted((rank, size))
    if captions - many < few:
        return 0.0
    if few > _MOST_FACTORS:
        behind, whole = captions - many, captions
        return exp(lgamma(behind + 1) - lgamma(behind - few + 1) - lgamma(whole + 1) + lgamma(whole - few + 1))
    steps = np.arange(few, dtype=float)
    return float(np.prod((captions - many - steps) / (captions - steps)))


def _chance(within: Callable[[int], float], last: int) -> Chance:
    """From the probability of a rank of at most r, which is 1 at ``last``."""
    median = bisect_left(range(1, last + 1), 0.5, key=within) + 1
    return Chance(100 * within(min(10, last)), median)
