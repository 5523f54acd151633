"""What a victim that has learned nothing scores, computed exactly."""

from collections.abc import Callable, Mapping
from math import comb
from typing import Any, NamedTuple


class Chance(NamedTuple):
    """Scores of a random ranking in one direction: R@10 in percent and the median of the rank's distribution."""

    recall_at_10: float
    median_rank: int


def of_dataset(params: Mapping[str, Any]) -> tuple[Chance, Chance] | None:
    """Chance levels, image to text and text to image, of a record's data set; ``None`` where it names no sizes."""
    images, captions = params.get("test_images"), params.get("test_captions")
    return None if images is None or captions is None else (image_to_text(images, captions), text_to_image(images))


def image_to_text(images: int, captions: int) -> Chance:
    """Chance level of the best-ranked of an image's own captions among all captions.

    Args:
        images: number of test images.
        captions: number of their captions, at least one each, spread as evenly as the numbers allow.
    """
    few, more = divmod(captions, images)
    groups = [(own, count) for own, count in ((few, images - more), (few + 1, more)) if count]

    def within(rank: int) -> float:
        # All of an image's own captions rank behind `rank` with probability C(captions - rank, own) / C(captions, own).
        missed = sum(count * (comb(captions - rank, own) / comb(captions, own)) for own, count in groups)
        return 1 - missed / images

    return _chance(within, captions)


def text_to_image(images: int) -> Chance:
    """Chance level of a caption's own image among all images."""
    return _chance(lambda rank: rank / images, images)


def _chance(within: Callable[[int], float], last: int) -> Chance:
    """From the probability of a rank of at most r, which is 1 at ``last``."""
    median = next(rank for rank in range(1, last + 1) if within(rank) >= 0.5)
    return Chance(100 * within(min(10, last)), median)
