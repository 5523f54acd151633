"""Reading one SVG file that may be hostile: what it says of itself, and its picture. Nothing it names is opened."""

import html
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from benchmark.core.pictures import open_picture
from benchmark.core.reading import read_bytes
from benchmark.data.dataset import Images

_LARGEST = 4 << 20  # bytes of a file
_FINEST = 4096  # pixels of a side, for drawings that fill a small part of their page
_MARGIN = 1 / 24  # of the picture's side, left white at the longer side of the drawing
_WHITE = 250  # of 255; pixels at least this light are the page
# Elements that show a picture from another file, or one in another format.
_REFUSED = frozenset({"image", "feImage"})
_FONT = "DejaVu Sans"


class BadDrawing(Exception):
    """An SVG file cannot be used; the message is the reason."""


@dataclass(frozen=True)
class SvgFile:
    """A parsed SVG file and its metadata (RDF, Creative Commons and Dublin Core).

    Attributes:
        text: the file's content.
        title: of the first ``cc:Work``; this and all other metadata are empty if missing.
        description: its description.
        keywords: its subjects.
        creator: name of the creator.
        licences: the addresses of all licences that the file names.
    """

    text: str
    title: str
    description: str
    keywords: tuple[str, ...]
    creator: str
    licences: tuple[str, ...]


def read_svg(path: Path) -> SvgFile:
    """Read and parse an SVG file.

    Raises:
        BadDrawing: not a regular file, too large, not UTF-8 or not well-formed, declares entities, or shows other
            pictures.
        OSError: it cannot be read.
    """
    try:
        content = read_bytes(path, _LARGEST)
    except ValueError as error:
        raise BadDrawing(str(error)) from error
    try:
        text = content.decode("utf-8-sig")
        # Entities can expand to any size and name other files. In decoded text there is one way to declare one.
        if "<!ENTITY" in text:
            raise BadDrawing("declares entities")
        root = ElementTree.fromstring(text)
    except (UnicodeDecodeError, ElementTree.ParseError, ValueError) as error:
        raise BadDrawing(f"not well-formed: {error}") from error
    if refused := sorted({_local(element) for element in root.iter()} & _REFUSED):
        raise BadDrawing(f"has elements of the kind {', '.join(refused)}")
    work = next((element for element in root.iter() if _local(element) == "Work"), ElementTree.Element("Work"))
    return SvgFile(
        text,
        title=_text(work, "title"),
        description=_text(work, "description"),
        keywords=tuple(_plain(item.text) for item in work.findall("{*}subject//{*}li")),
        creator=_text(work, "creator//{*}title"),
        licences=tuple(
            value for each in root.iter() if _local(each) == "license" for value in each.attrib.values() if value
        ),
    )


def draw(text: str, side: int, ground: int = 255) -> Images:
    """An SVG as a picture on a grey level: (3, side, side) uint8. The empty page around the drawing is cut off.

    Call it in a thread with a stack of 64 MiB: on a usual one, deeply nested elements crash the process.

    Raises:
        BadDrawing: it cannot be drawn, or nothing is on the page.
    """
    from PIL import Image

    size = 2 * side
    page = _on_page(text, size, 255)  # what is drawn is found on white
    left, top, right, bottom = _box(page)
    if (longest := max(right - left, bottom - top)) < side:
        size = min(_FINEST, size * side // longest)
        page = _on_page(text, size, 255)
        left, top, right, bottom = _box(page)
    if ground != 255:
        page = _on_page(text, size, ground)
    width, height = right - left, bottom - top
    inner = round(side * (1 - 2 * _MARGIN))
    fitted = (max(1, round(inner * width / max(width, height))), max(1, round(inner * height / max(width, height))))
    drawing = Image.fromarray(page[top:bottom, left:right]).resize(fitted, Image.Resampling.BICUBIC)
    picture = Image.new("RGB", (side, side), (ground, ground, ground))
    picture.paste(drawing, ((side - fitted[0]) // 2, (side - fitted[1]) // 2))
    return np.asarray(picture).transpose(2, 0, 1)


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def _text(work: ElementTree.Element, path: str) -> str:
    return _plain(work.findtext(f"{{*}}{path}"))


def _plain(text: str | None) -> str:
    """Text with single spaces. Some files escape characters twice, and many write ``_`` for a space."""
    return " ".join(html.unescape(text or "").replace("_", " ").split())


def _on_page(text: str, size: int, ground: int) -> NDArray[np.uint8]:
    """(H, W, 3) uint8, the longer side of ``size`` pixels, on a page of one grey level."""
    import resvg_py

    try:
        png = resvg_py.svg_to_bytes(
            svg_string=text,
            width=size,
            height=size,
            background=f"#{ground:02x}{ground:02x}{ground:02x}",
            dpi=96.0,
            skip_system_fonts=True,
            font_files=[_font_file()],
            serif_family=_FONT,
            sans_serif_family=_FONT,
        )
    except ValueError as error:
        raise BadDrawing(f"cannot be drawn: {error}") from error
    return np.asarray(open_picture(io.BytesIO(png), ["PNG"]).convert("RGB"))


@cache
def _font_file() -> str:
    """The font that comes with Matplotlib. With the fonts of the machine, pictures would differ between machines."""
    import matplotlib

    return f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"


def _box(page: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what is not white."""
    drawn = page.min(axis=2) < _WHITE
    if not drawn.any():
        raise BadDrawing("nothing is drawn")
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
