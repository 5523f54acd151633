"""What the four EDA operations share (Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques", section 2).

Words are what whitespace separates. The library nlpaug carries the operations; its count of words (⌈p·words⌉, at most
ten), its tokenizer, its skipped punctuation and its new capitals are not EDA's and are replaced.
"""

from typing import Any

from benchmark.core.seeding import seeded_globals
from defenses.base import HookContext

WHOLE_WORDS: dict[str, Any] = {"tokenizer": str.split, "reverse_tokenizer": " ".join}
"""Arguments that make an nlpaug augmenter leave untouched words as they are."""


def words_to_change(words: int, alpha: float) -> int:
    """EDA's n for a caption of that many words: ``alpha`` of them, at least one."""
    return max(1, round(alpha * words))


def augment(augmenter: Any, captions: list[str], at: HookContext) -> list[str]:
    """Run an nlpaug augmenter over captions; it draws from global random state, which is seeded and put back."""
    with seeded_globals(at.seed):
        return augmenter.augment(captions)
