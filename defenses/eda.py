"""What the four EDA operations share (Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques", section 2).

Words are what whitespace separates, as in the authors' code. Their code first puts sentences into lower case and drops
everything but letters; ours keeps captions as they are, because the victim's tokenizer reads punctuation and the
defense must change only what it says. So punctuation is set aside where a synonym is looked up, and a mark that stands
alone (the full stop of "a red dog .") is not counted, though it can be deleted or swapped like a word.

The library nlpaug carries deletion and swap; its count of words (⌈p·words⌉, at most ten), its tokenizer, its skipped
punctuation and its new capitals are not EDA's and are replaced.
"""

from collections.abc import Sequence
from typing import Any

import regex

from benchmark.core.seeding import seeded_globals
from defenses.base import HookContext

WHOLE_WORDS: dict[str, Any] = {"tokenizer": str.split, "reverse_tokenizer": " ".join}
"""Arguments that make an nlpaug augmenter leave untouched words as they are."""
# From the first letter or digit to the last one, with the accents and vowel signs (M) that follow it.
_ITSELF = regex.compile(r"[\p{L}\p{N}](?:.*[\p{L}\p{N}])?\p{M}*", regex.DOTALL)


def words_to_change(words: Sequence[str], alpha: float) -> int:
    """EDA's n = max(1, int(α · l)) for a caption of l words, rounded down as in the authors' code.

    Args:
        words: the caption, split at whitespace; a word without a letter or digit does not count.
        alpha: share of the words to change.
    """
    return max(1, int(alpha * sum(any(map(str.isalnum, word)) for word in words)))


def parts(word: str) -> tuple[str, str, str]:
    """Punctuation before a word, the word itself, and what follows it: ``"dog's."`` is "", "dog" and "'s."."""
    found = _ITSELF.search(word)
    if found is None:
        return word, "", ""
    before, itself, after = word[: found.start()], found[0], word[found.end() :]
    if itself.endswith(("'s", "’s")):
        itself, after = itself[:-2], itself[-2:] + after
    return before, itself, after


def augment(augmenter: Any, captions: list[str], at: HookContext) -> list[str]:
    """Run an nlpaug augmenter over captions; it draws from global random state, which is seeded and put back."""
    with seeded_globals(at.seed):
        return augmenter.augment(captions)
