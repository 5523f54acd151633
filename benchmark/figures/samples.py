"""Figures 3 and 4: protected images and captions beside the originals, and the noise amplified."""

import itertools
from collections.abc import Iterable
from textwrap import TextWrapper
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnchoredOffsetbox, HPacker, OffsetBox, TextArea, VPacker
from numpy.typing import NDArray

from attacks import Poison
from attacks.placement import word_numbers
from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset
from benchmark.data.dataset import spread_rows
from benchmark.figures.sources import ArtifactPaths
from benchmark.figures.style import VERMILION, WIDTH, heading_lines, named, styled, told_apart
from benchmark.grid.records import Record
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks, once_a_poison

AMPLIFIED = 16
_PAIRS = 4
# Inches: two pairs side by side, each three images wide, with its captions below.
_IMAGE, _GAP, _BETWEEN, _HEAD, _LINE, _TOP = 1.1, 0.06, 0.18, 0.2, 0.145, 0.24
_MARGIN = 0.06
_LETTERS = 54  # a line of caption


def samples(records: Iterable[Record], sources: ArtifactPaths) -> tuple[dict[str, Figure], list[UsageError]]:
    """A figure for each data set, surrogate and attack whose poison is in the store, of its first seed.

    Pairs are spread evenly over the training set, so that none is picked for its looks.

    Args:
        records: of any runs.
        sources: where poisons and images are.

    Returns:
        Figures by file name, and a reason for each attack that has no figure: its poisons are missing or damaged, or
        its data cannot be read.

    Raises:
        UsageError: no attack to show, or records that mix settings.
    """
    figures: dict[str, Figure] = {}
    missing: list[UsageError] = []
    by_name = candidates_by_name(records)
    surrogates = {record.surrogate.spec for _, candidates in by_name.values() for record in candidates}
    for name, (block, candidates) in by_name.items():
        reasons: list[UsageError] = []
        for record in candidates:
            try:
                clean, poison = sources.find(record)
            except UsageError as error:
                reasons.append(error)
                continue
            text = _about(block, record, poison, with_surrogate=len(surrogates) > 1)
            figures[name] = _draw(text, clean, poison)
            break
        else:
            missing.append(reasons[0])
    return figures, missing


def candidates_by_name(records: Iterable[Record]) -> dict[str, tuple[Block, list[Record]]]:
    """The records that each figure may show, by file name: those of one attack, its first seed first.

    Raises:
        UsageError: no attack to show, or records that mix settings.
    """
    attacked = [r for r in records if r.attack.spec != CLEAN and r.defense.spec == UNDEFENDED and r.status == "done"]
    if not attacked:
        raise UsageError("these records hold no undefended attack that is done; the figure needs one")
    all_blocks = told_apart(blocks(once_a_poison(attacked)))
    return {
        named("samples", block, all_blocks, attack.spec): (block, block.of(attack.spec))
        for block in all_blocks
        for attack in block.attacks
    }


def amplified(protected: NDArray[np.uint8], original: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The difference of two (3, H, W) images times 16 around mid-grey: (3, H, W) uint8."""
    difference = protected.astype(np.int16) - original
    return (128 + AMPLIFIED * difference).clip(0, 255).astype(np.uint8)


def _draw(about: str, clean: CaptionDataset, poison: Poison) -> Figure:
    base, protected = (clean.by_row() if poison.per_row else clean), poison.protect(clean)
    chosen = spread_rows(len(base), _PAIRS)
    # Words stay whole, as the trigger's are known by their numbers.
    lines = TextWrapper(_LETTERS, break_on_hyphens=False, break_long_words=False)
    captions = [lines.wrap(" ".join(protected.captions[int(index)][0].split())) for index in chosen]
    down, row_height = -(-len(chosen) // 2), _HEAD + _IMAGE + _LINE * (0.8 + max(map(len, captions)))
    text = heading_lines(about, WIDTH)
    head = _TOP + _LINE * text.count("\n")
    height = head + down * row_height
    with styled():
        figure = Figure(figsize=(WIDTH, height))
        for number, index in enumerate(chosen):
            row, column = divmod(number, 2)
            left = _MARGIN + column * (3 * _IMAGE + 2 * _GAP + _BETWEEN)
            top = height - head - row * row_height - _HEAD
            original, changed = base.images[int(index)], protected.images[int(index)]
            shown = {
                "original": original,
                "protected": changed,
                f"noise × {AMPLIFIED}": amplified(changed, original),
            }
            for place, (title, image) in enumerate(shown.items()):
                x = left + place * (_IMAGE + _GAP)
                axes = figure.add_axes((x / WIDTH, (top - _IMAGE) / height, _IMAGE / WIDTH, _IMAGE / height))
                axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
                axes.set_axis_off()
                axes.set_title(title, fontsize=8, pad=2)
            words = set[int]()
            if poison.trigger is not None:
                words = word_numbers(poison.trigger[int(index)], base.captions[int(index)][0], poison.place)
            figure.add_artist(
                AnchoredOffsetbox(
                    loc="upper left",
                    child=_caption(captions[number], words),
                    bbox_to_anchor=(left / WIDTH, (top - _IMAGE - 0.03) / height),
                    bbox_transform=figure.transFigure,
                    frameon=False,
                    pad=0,
                    borderpad=0,
                )
            )
        figure.text(_MARGIN / WIDTH, 1 - 0.04 / height, text, va="top", ha="left", fontsize=8.5)
        return figure


def _caption(lines: list[str], words: set[int]) -> OffsetBox:
    """A caption over a few lines, the words of these numbers, which are the trigger, bold and coloured."""
    packed: list[Artist] = []
    numbers = itertools.count()
    for line in lines:
        parts: list[Artist] = []
        for marked, run in itertools.groupby(line.split(" "), lambda _: next(numbers) in words):
            style: dict[str, Any] = {"fontweight": "bold", "color": VERMILION} if marked else {}
            parts.append(TextArea(" ".join(run), textprops={"fontsize": 8, **style}))
        packed.append(HPacker(children=parts, pad=0, sep=3, align="baseline"))
    return VPacker(children=packed, pad=0, sep=2, align="left")


def _about(block: Block, record: Record, poison: Poison, *, with_surrogate: bool) -> str:
    psnr = record.poison.get("psnr")
    parts = [f"{record.attack.title} on {block.dataset.label}, seed {record.seed}"]
    parts += [f"surrogate {record.surrogate.spec}"] if with_surrogate else []
    parts += [f"ε = {poison.eps}/255, PSNR {psnr:.1f} dB"] if psnr is not None else ["images unchanged"]
    parts += ["trigger in bold"] if poison.trigger is not None else ["no trigger"]
    return "; ".join(parts)
