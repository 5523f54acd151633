"""How every figure looks, and how it is written: for print and for colour-blind readers."""

import hashlib
import logging
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from math import nan
from pathlib import Path
from statistics import fmean, stdev
from textwrap import wrap
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.text import Text
from PIL import Image

from benchmark.core.atomic_files import replacing
from benchmark.core.pictures import open_picture
from benchmark.core.printing import printable
from benchmark.grid.records import Record
from benchmark.tables.selection import Block

_log = logging.getLogger(__name__)

FORMATS = ("svg", "pdf", "png")
_DPI = 150
_COLOURS = 256  # of a palette
_UNSEEN = 1.0  # mean squared error of 8-bit values that a palette may cost
_LONGEST = 60  # letters of a spec in a file's name
WIDTH = 7.2  # inches, a page's text width
_HEADING_LETTERS = 104  # that a line of a heading holds in a figure of that width
LEGEND_LETTERS = 105  # that a line of a legend holds in a figure of that width
LEGEND_SAMPLE = 8  # letters that the sample before a label takes
_LEGEND_LINES = 3  # of a label
_LETTERS_NAMED = 20  # of those that the font lacks
LEGEND_LINE = 0.17  # inches
INK, FAINT = "#222222", "#8a8a8a"
# Okabe and Ito's palette, without yellow, which is too light for lines on white.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
_COLOURS_OF_LINES = (INK, GREEN, SKY, VERMILION, PURPLE, BLUE, ORANGE, FAINT)

_FONT = "DejaVu Sans"
_SETTINGS: Any = {
    "font.family": _FONT,
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,  # captions and file names are text, dollar signs and all
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "svg.fonttype": "none",
    "svg.hashsalt": "unlearnable-bench",  # the same figure, the same file
}


def legend_below(figure: Figure, handles: Sequence[Any], labels: Sequence[str]) -> None:
    """Draw a legend below all axes, in two to four columns, as many as fit; the figure grows by its lines."""
    letters = int(LEGEND_LETTERS * figure.get_figwidth() / WIDTH)
    labels = [in_lines(label, letters // 2 - LEGEND_SAMPLE, _LEGEND_LINES) for label in labels]
    lines = [line for label in labels for line in label.split("\n")]
    columns = max(2, min(4, int(letters / (max(map(len, lines)) + LEGEND_SAMPLE))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=3.2)
    # It is filled column by column.
    high = max(len("\n".join(column).split("\n")) for column in np.array_split(labels, columns))
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * high)


class Look(NamedTuple):
    """Colour, marker and dashes of a line: the marker tells it from all others of :data:`_LOOKS`, the colour from most.

    The two attacks with MEM's trigger share a colour, and so do the two with random words; their dashes differ.
    """

    color: str
    marker: str
    linestyle: Any


_LOOKS = {
    "clean": Look(INK, "o", "-"),
    "em": Look(ORANGE, "s", (0, (5, 2))),
    "mem1": Look(SKY, "P", (0, (3, 1, 1, 1))),
    "mem3": Look(BLUE, "^", "-"),
    "mem5": Look(VERMILION, "v", (0, (1, 1))),
    "mem7": Look(PURPLE, "D", (0, (3, 1, 1, 1, 1, 1))),
    "delta-only": Look(GREEN, "X", (0, (5, 2))),
    "trigger-only": Look(VERMILION, "d", (0, (1, 1))),
    "trigger-uniform": Look(VERMILION, "H", "-"),
    "uniform-noise": Look(PURPLE, "h", (0, (3, 1, 1, 1))),
    "random-trigger": Look(ORANGE, "<", (0, (3, 1, 1, 1, 1, 1))),
    "same-words": Look(ORANGE, ">", "-"),
    "mem-official": Look(SKY, "*", (0, (3, 1, 1, 1, 1, 1))),
    "em-official": Look(FAINT, "p", (0, (1, 1))),
}
_SPARE = (
    Look(GREEN, "8", "-"),
    Look(SKY, "1", "-"),
    Look(PURPLE, "2", (0, (5, 2))),
    Look(GREEN, "3", (0, (1, 1))),
    Look(FAINT, "x", "-"),
    Look(BLUE, "+", (0, (5, 2))),
    Look(INK, "4", (0, (1, 1))),
)
"""For attacks without a look of their own, where a figure has many."""


def looks(specs: Iterable[str]) -> dict[str, Look]:
    """A look for each attack: known names have their own in every figure, others get what is left.

    Where no look is left, those that were given come again in another colour.
    """
    specs = list(specs)
    taken = {spec: _LOOKS[spec] for spec in specs if spec in _LOOKS}
    # Clean data's look and EM's come last, so that few figures give them to another attack.
    free = [look for look in (*_SPARE, *reversed(_LOOKS.values())) if look not in taken.values()]
    others = [spec for spec in specs if spec not in taken]
    return taken | {spec: _recoloured(free[n % len(free)], n // len(free)) for n, spec in enumerate(others)}


def _recoloured(look: Look, steps: int) -> Look:
    place = _COLOURS_OF_LINES.index(look.color) + steps
    return look._replace(color=_COLOURS_OF_LINES[place % len(_COLOURS_OF_LINES)])


def whiskers(axes: Axes, values: Mapping[float, Sequence[float]], label: str, look: Look) -> None:
    """Means of what was measured at each place of the x axis; bars of one standard deviation to either side."""
    known = {x: own for x, own in values.items() if own}
    spread = [stdev(own) if len(own) > 1 else nan for own in known.values()]
    means = [fmean(own) for own in known.values()]
    axes.errorbar(list(known), means, yerr=spread, capsize=3, label=label, **look._asdict())


def clean_line(axes: Axes, clean: Iterable[Record]) -> None:
    """The recall of clean data's victims, mean of both directions and of seeds, as a dotted line; none, no line."""
    recalls = [record.last.test.mean_recall_at_10 for record in clean]
    if recalls:
        axes.axhline(fmean(recalls), color=INK, linewidth=0.8, linestyle=(0, (1, 2)), label="clean data")


@contextmanager
def styled() -> Iterator[None]:
    """The settings within which figures are drawn and written."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # One for each letter that the font lacks, in captions; write() names them in one line.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font")
        yield


def named(kind: str, block: Block, blocks: list[Block], *more: str) -> str:
    """A file name: the figure's kind, and what it is about where there are several."""
    about = [*more]
    about += [block.dataset.spec] if len({one.dataset.spec for one in blocks}) > 1 else []
    about += [block.victim.spec] if len({one.victim.spec for one in blocks}) > 1 else []
    return "-".join([kind, *map(_file_name, about)])


def told_apart(blocks: Sequence[Block]) -> list[Block]:
    """The blocks, data sets that share a label with their specs for labels, as in headings."""
    specs: dict[str, set[str]] = defaultdict(set)
    for one in blocks:
        specs[one.dataset.label].add(one.dataset.spec)
    return [
        replace(one, dataset=replace(one.dataset, label=one.dataset.spec)) if len(specs[one.dataset.label]) > 1 else one
        for one in blocks
    ]


def _file_name(spec: str) -> str:
    """A spec as part of a file name; with a hash where letters were replaced, as two specs may then look alike."""
    plain = "".join(c if c.isalnum() or c in "+-." else "-" for c in spec)[:_LONGEST]
    return plain if plain == spec else f"{plain.strip('-')}-{hashlib.sha256(spec.encode()).hexdigest()[:6]}"


def about(block: Block) -> str:
    """Data set, victim, and what whiskers are where there are several seeds."""
    several = ["mean ± sd over seeds"] if len({record.seed for record in block.records}) > 1 else []
    return ", ".join([block.dataset.label, f"victim {block.victim.spec}", *several])


def in_lines(text: str, letters: int, most: int | None = None) -> str:
    """A name in lines of so many letters; what is beyond the most lines, if there is a limit, is left out.

    Lines end after commas, and a longer part after an opening bracket, an equals sign or a plus sign.
    """
    text = re.sub(r",[ \n]*", ", ", text)
    parts = re.compile(rf".{{1,{letters}}}$|.{{1,{letters}}}(?<=[\[=+])|.{{1,{letters}}}")
    text = re.sub(rf"\S{{{letters + 1},}}", lambda found: " ".join(parts.findall(found[0])), text)
    lines = [part for line in text.split("\n") for part in wrap(line, letters, break_on_hyphens=False)]
    return "\n".join(lines[:most]) + ("…" if len(lines[:most]) < len(lines) else "")


def heading(figure: Figure, text: str) -> None:
    """What the figure is about, at its top, in lines that fit."""
    figure.suptitle(heading_lines(text, figure.get_figwidth()), fontsize=8.5, color=INK, x=0.01, ha="left")


def heading_lines(text: str, width: float) -> str:
    """A heading in lines that fit a figure of so many inches."""
    return in_lines(text, int(_HEADING_LETTERS * width / WIDTH))


def write(figure: Figure, folder: Path, name: str, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write a figure; the same figure gives the same SVG and PNG.

    Args:
        figure: what a function of this package has drawn.
        folder: where to; made if need be.
        name: of the files, without ending.
        formats: of :data:`FORMATS`.

    Returns:
        The files.

    Raises:
        UsageError: the folder cannot be written to.
    """
    paths = [folder / f"{name}.{kind}" for kind in formats]
    if lacking := _letters_without_glyph(figure):
        letters = f"{lacking[:_LETTERS_NAMED]}{'…' if len(lacking) > _LETTERS_NAMED else ''}"
        _log.warning("%s: %s has no glyph for %s; PNG and PDF show boxes", name, _FONT, letters)
    with styled():
        for kind, path in zip(formats, paths, strict=True):
            with replacing(path) as temporary:
                if kind == "png":
                    temporary.write_bytes(png(figure))
                    continue
                metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}[kind]
                figure.savefig(temporary, format=kind, dpi=_DPI, metadata=metadata)
                if kind == "svg":
                    # Its text is that of records and captions, and XML admits no control characters.
                    lines = temporary.read_text("utf-8").split("\n")
                    temporary.write_text("\n".join(map(printable, lines)), "utf-8")
    return paths


def _letters_without_glyph(figure: Figure) -> str:
    """The letters of a figure's texts that its font lacks, each once, by code point."""
    texts = [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text)]
    glyphs = get_font(findfont(_FONT)).get_charmap()
    return "".join(sorted(letter for letter in set("".join(texts)) if letter != "\n" and ord(letter) not in glyphs))


def png(figure: Figure) -> bytes:
    """A figure as a PNG file, compressed as far as no eye can tell."""
    drawn = BytesIO()
    with styled():
        figure.savefig(drawn, format="png", dpi=_DPI)
    return _compressed(open_picture(drawn, ["PNG"]))


def _compressed(image: Image.Image) -> bytes:
    """With a palette where 256 colours are as good as all, as in charts; noise in photographs needs them all."""
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    with_palette = flat.quantize(_COLOURS, kmeans=1, dither=Image.Dither.NONE)
    error = np.asarray(flat, np.float64) - np.asarray(with_palette.convert("RGB"), np.float64)
    file = BytesIO()
    (with_palette if np.square(error).mean() <= _UNSEEN else flat).save(file, "PNG", optimize=True)
    return file.getvalue()
