"""How much a defense changes, measured on the rows a victim really trains on."""

import difflib
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.core.distributed import Processes

_COMPARED = 300


@dataclass
class Changes:
    """Averages over a training: captions in its first epoch, pairs in every epoch, images and loss at every step.

    Attributes:
        words_per_caption: words of a caption that were inserted, deleted or replaced; one that has moved is deleted in
            one place and inserted in another.
    """

    words_per_caption: float = 0.0
    _pixel_sum: torch.Tensor | None = None
    _batches: int = 0
    _loss_sum: torch.Tensor | None = None
    _pairs: int = 0
    _left_out: int = 0

    @property
    def pixel(self) -> float:
        """Mean absolute change of a pixel value, in 1/255."""
        return 0.0 if self._pixel_sum is None else float(self._pixel_sum) * 255 / self._batches

    @property
    def loss(self) -> float:
        """Mean absolute difference between a loss of the defense's own and CLIP's of the same batch, in nats."""
        return 0.0 if self._loss_sum is None else float(self._loss_sum) / self._batches

    @property
    def pairs_left_out(self) -> float:
        """Percent of an epoch's pairs that a filter left out."""
        return 100 * self._left_out / self._pairs if self._pairs else 0.0

    def summary(self) -> dict[str, float]:
        """For a record."""
        return {name: getattr(self, name) for name in ("words_per_caption", "pixel", "loss", "pairs_left_out")}

    def state(self) -> dict[str, Any]:
        """For a checkpoint: ``Changes(**state)`` goes on counting."""
        return dict(vars(self))

    def see_pairs(self, before: int, after: int) -> None:
        """Count an epoch's pairs before and after the defense."""
        self._pairs += before
        self._left_out += max(0, before - after)

    def see_captions(self, before: list[str], after: list[str]) -> None:
        """Compare an epoch's captions before and after the defense."""
        changed = sum(words_changed(old, new) for old, new in zip(before, after, strict=True) if old != new)
        self.words_per_caption = changed / len(before)

    def see_images(self, before: torch.Tensor, after: torch.Tensor, part: slice) -> None:
        """Compare a batch (B, 3, H, W) before and after the defense; sums on the device, without waiting for it.

        Of a batch shared among processes, each looks at its own part alone.
        """
        self._batches += 1
        if after is not before:
            mean = Processes.current().mean((after[part].detach() - before[part]).abs().mean())
            self._pixel_sum = mean if self._pixel_sum is None else self._pixel_sum + mean

    def see_loss(self, before: torch.Tensor, after: torch.Tensor) -> None:
        """Compare a batch's loss under CLIP and under the defense; sums on the device, without waiting for it."""
        change = (after.detach() - before).abs()
        self._loss_sum = change if self._loss_sum is None else self._loss_sum + change


def words_changed(before: str, after: str) -> int:
    """Words inserted, deleted or replaced between two captions; a replaced word counts once.

    Of long captions the first ``_COMPARED`` words are compared, of which a victim reads some 70 tokens: to compare all
    would take time with the square of their number.
    """
    old, new = (text.split(maxsplit=_COMPARED)[:_COMPARED] for text in (before, after))
    matcher = difflib.SequenceMatcher(a=old, b=new, autojunk=False)
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in matcher.get_opcodes() if tag != "equal")
