"""CLIP's byte-pair tokenizer: captions to token ids, triggers into token ids."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer

from victims.long_captions import FirstTokens, clean_words

VOCABULARY_SIZE = 49408
_REMEMBERED = 1_000_000  # words
_REMEMBERED_TEXTS = 100  # long ones
_LONG_TEXT = 1000  # characters; up to here open_clip cleans a text in a fraction of a second, whatever it holds
_LONG_WORD = 200  # characters, and bytes of a part of a word
MOST_IDS = 1000  # ids of a text; 75 reach a model
BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))).translate(dict.fromkeys(b"\x0b\x1c\x1d\x1e\x1f\x85"))
"""What separates words for CLIP's tokenizer. Python also takes six control characters for blanks: the tokenizer drops
five of them and reads U+0085 as an ellipsis."""


class _Vocabulary(NamedTuple):
    """What all tokenizers share: open_clip's, its cleaning of texts, and how a word becomes ids."""

    bpe: SimpleTokenizer
    clean: Callable[[str], str]
    ids_of_word: Callable[[str], list[int]]
    first_tokens: FirstTokens


@cache
def _vocabulary() -> _Vocabulary:
    """Read once: it takes as long as building a small model, and 49,408 pieces take memory."""
    bpe = SimpleTokenizer()
    clean, bpe.clean_fn = bpe.clean_fn, str  # words are clean already
    return _Vocabulary(bpe, clean, lru_cache(_REMEMBERED)(bpe.encode), FirstTokens(bpe))


class Tokenizer:
    """CLIP's BPE tokenizer with each word's ids remembered: captions are tokenised again every epoch, often new ones.

    No piece that byte-pair encoding starts from spans a blank, so a caption's ids are those of its words.
    """

    def __init__(self, context_length: int = 77) -> None:
        self.context_length = context_length
        self._bpe, self._clean, self._ids_of_word, self._first_tokens = _vocabulary()
        self._ids_of_long_text = lru_cache(_REMEMBERED_TEXTS)(self._encode)

    @property
    def start(self) -> int:
        """Id of the start token."""
        return int(self._bpe.sot_token_id)

    @property
    def end(self) -> int:
        """Id of the end token, the largest id of all."""
        return int(self._bpe.eot_token_id)

    def encode(self, text: str, most: int = MOST_IDS) -> list[int]:
        """The first ``most`` ids of a text, without start and end tokens, in bounded time whatever the text."""
        return list(self._ids_of_long_text(text, most)) if len(text) > _LONG_TEXT else self._encode(text, most)

    def _encode(self, text: str, most: int) -> list[int]:
        ids: list[int] = []
        for word in self._words(text):
            ids += self._ids_of_word(word) if len(word) <= _LONG_WORD else self._ids_of_long(word, most - len(ids))
            if len(ids) >= most:
                break
        return ids[:most]

    def has_special(self, text: str) -> bool:
        """Whether a start or end token is read anywhere in a text."""
        special = {self._bpe.decoder[self.start], self._bpe.decoder[self.end]}
        return any(part[0] in special for word in self._words(text) for part in self._bpe.pat.finditer(word))

    def _words(self, text: str) -> Iterable[str]:
        if _is_plain(text):
            return text.lower().split()
        return self._clean(text).split(" ") if len(text) <= _LONG_TEXT else clean_words(text)

    def _ids_of_long(self, word: str, most: int) -> list[int]:
        ids: list[int] = []
        for part in self._bpe.pat.finditer(word):
            if len(ids) >= most:
                break
            short = len(part[0].encode()) <= _LONG_WORD
            ids += self._bpe.encode(part[0]) if short else self._first_tokens(part[0], most - len(ids))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, words separated by spaces."""
        return str(self._bpe.decode(list(ids))).strip()

    def __call__(self, captions: Sequence[str]) -> torch.Tensor:
        """Token ids of captions.

        Returns:
            (B, L) int64: start token, caption, end token, zeros. L is that of the longest caption and at most the
            context length; a longer caption is cut and keeps its end token.
        """
        encoded = [[self.start, *self.encode(caption, self.context_length - 2), self.end] for caption in captions]
        tokens = np.zeros((len(encoded), max(map(len, encoded))), dtype=np.int64)
        for row, ids in enumerate(encoded):
            tokens[row, : len(ids)] = ids
        return torch.from_numpy(tokens)

    def vocabulary(self) -> dict[int, str]:
        """Every id with its byte-pair piece; pieces that end a word end in ``</w>``."""
        return dict(self._bpe.decoder)


def has_special_token(text: str) -> bool:
    """Whether the tokenizer reads a start or end token in a text, however it is spelled (``&lt;end_of_text&gt;``)."""
    if _is_plain(text) and "<" not in text:
        return False
    return Tokenizer().has_special(text)


def _is_plain(text: str) -> bool:
    """Whether cleaning changes only the case of a text: no mojibake, HTML entity or control character."""
    return text.isascii() and text.isprintable() and "&" not in text


def lengths(tokens: torch.Tensor) -> torch.Tensor:
    """(B,) int64: tokens up to and including the end token, which has the largest id. Zero is a token too ('!')."""
    return tokens.argmax(dim=-1) + 1


def trim(tokens: torch.Tensor) -> torch.Tensor:
    """Cut (B, L) tokens to the batch's longest caption."""
    return tokens[:, : int(lengths(tokens).max())]


def insert_trigger(
    tokens: torch.Tensor, trigger: torch.Tensor, context_length: int, before: torch.Tensor | None = None
) -> torch.Tensor:
    """Put a trigger between a caption's own tokens, which move right.

    Args:
        tokens: (B, L) int64, start token first, end token last.
        trigger: (B, k) integer ids.
        context_length: the most tokens a row may have.
        before: (B, k) int64, ascending in a row: for each token of the trigger, how many tokens of the caption stand
            before it, the start token not counted; ``None``: all 0, so that the trigger follows the start token.

    Returns:
        (B, min(L + k, context_length)) int64; a caption that no longer fits is cut and keeps its end token.
    """
    before = torch.zeros_like(trigger) if before is None else before
    longer = tokens.new_empty(len(tokens), tokens.shape[1] + trigger.shape[1])
    own = torch.zeros_like(longer, dtype=torch.bool).scatter_(1, trigger_columns(before), True)
    # Not by indexing with a mask, for which a GPU would have to be waited for.
    longer.masked_scatter_(own, trigger.to(tokens.dtype)).masked_scatter_(~own, tokens)
    if longer.shape[1] <= context_length:
        return longer
    end = tokens.max()
    cut = lengths(longer) > context_length
    longer = longer[:, :context_length].clone()
    longer[:, -1] = torch.where(cut, end, longer[:, -1])
    return longer


def trigger_columns(before: torch.Tensor) -> torch.Tensor:
    """(B, k) where a trigger's tokens stand after :func:`insert_trigger`, the start token being column 0."""
    return 1 + before + torch.arange(before.shape[1], device=before.device)
