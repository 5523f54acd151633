"""The words a trigger may consist of: tokens that survive being written down as a word and read again."""

import re
from collections.abc import Iterable

import numpy as np

from benchmark.core.errors import UsageError
from benchmark.core.seeding import numpy_generator
from benchmark.data import CaptionDataset
from victims.tokens import Tokenizer

_WORD = re.compile(r"[a-z]+</w>")
_FEWEST_WORDS = 2


def whole_words(tokenizer: Tokenizer, among: Iterable[int] | None = None) -> dict[int, str]:
    """The tokens that can be words of a trigger: their texts by id.

    A trigger is published as text in a caption file. So a token is taken only if its text is letters from a to z and
    the tokenizer reads this text back as the same single id. Word pieces and special tokens would come back as other
    ids (55 % of the reference code's 5-token triggers do). Most of the texts are words; some are the end of a longer
    word.

    Args:
        tokenizer: gives the texts and reads them back.
        among: the ids to choose from; ``None``: all.
    """
    pieces = tokenizer.vocabulary()
    ids = pieces if among is None else among
    words = {id_: pieces[id_].removesuffix("</w>") for id_ in ids if _WORD.fullmatch(pieces[id_])}
    return {id_: word for id_, word in words.items() if tokenizer.encode(word) == [id_]}


def trigger_words(tokenizer: Tokenizer, train: CaptionDataset, count: int | None, seed: int) -> np.ndarray:
    """(V,) int64 ids of the trigger vocabulary, sorted.

    Args:
        tokenizer: the surrogate's.
        train: the training set whose captions offer words.
        count: that many drawn at random from the tokens of the captions; ``None`` takes all of CLIP's.
        seed: of the draw.

    Raises:
        UsageError: with ``count``, the captions hold fewer than two usable words.
    """
    if count is None:
        return np.array(sorted(whole_words(tokenizer)))
    require_words(train, count)
    used = {id_ for captions in train.captions for caption in captions for id_ in tokenizer.encode(caption)}
    usable = sorted(whole_words(tokenizer, used))
    drawn = numpy_generator(seed, "trigger vocabulary").permutation(len(usable))[:count]
    return np.array(usable)[np.sort(drawn)]


def require_words(train: CaptionDataset, count: int | None) -> None:
    """Refuse captions that offer no trigger vocabulary, without reading more of them than that takes.

    Raises:
        UsageError: with ``count``, the captions hold fewer than two usable words.
    """
    if count is None:
        return
    tokenizer, usable = Tokenizer(), set[int]()
    for captions in train.captions:
        usable |= whole_words(tokenizer, {id_ for text in captions for id_ in tokenizer.encode(text)}).keys()
        if len(usable) >= _FEWEST_WORDS:
            return
    raise UsageError(
        f"{train.name}: its captions hold {len(usable)} whole words of CLIP's vocabulary, too few for triggers; give "
        "the attack vocabulary=none, which takes words from all of CLIP's"
    )


def drawn_triggers(words: np.ndarray, rows: int, k: int, seed: int) -> np.ndarray:
    """(N, k) int64 ids for N rows, drawn at random from the trigger vocabulary: what HotFlip starts from."""
    return words[numpy_generator(seed, "trigger start").integers(len(words), size=(rows, k))]


def described(count: int | None) -> str:
    """A trigger vocabulary of that many words, for people."""
    words = "tokens that can stand as a word"
    return f"all of CLIP's {words}" if count is None else f"{count} of the captions' {words}"
