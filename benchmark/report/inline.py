"""Figures inside a page, as SVG whose ids are its own or as a bitmap, whichever is smaller."""

import re
from base64 import b64encode
from collections.abc import Callable
from html import escape
from io import BytesIO, StringIO

from matplotlib.figure import Figure

from benchmark.core.pictures import open_picture
from benchmark.figures.style import png, styled

_IDS = re.compile(r'(\bid="|href="#|url\(#)')
_TAGS = re.compile(r"<[^<>]+>")
_USED = re.compile(r'(?:href="#|url\(#)([^")]+)')
_LONG_NUMBERS = re.compile(r"(\d\.\d\d)\d+")
# Verdana is as wide as DejaVu Sans, all others are narrower: nothing overlaps where the font is not there.
_FONTS = "'DejaVu Sans', Verdana, sans-serif"
PIXELS = 110  # of the page, an inch
_LARGEST = 400_000  # bytes; a larger bitmap is compressed with some loss


def inline(figure: Figure, name: str, description: str) -> str:
    """A figure as an ``svg`` or ``img`` element.

    Args:
        figure: as :mod:`benchmark.figures` draws it.
        name: unique on the page; every id and every class in the figure begins with it.
        description: for those who do not see it.
    """
    width = round(figure.get_figwidth() * PIXELS)
    return min(_svg(figure, name, description, width), inline_png(png(figure), description, width), key=len)


def inline_png(file: bytes, description: str, width: int) -> str:
    """A PNG file as an ``img`` element, in WebP, which is smaller; a large one is compressed with some loss.

    Args:
        file: its bytes.
        description: for those who do not see it.
        width: on the page, in pixels.
    """
    image = open_picture(BytesIO(file), ["PNG"]).convert("RGB")
    for settings in ({"lossless": True, "quality": 100}, {"quality": 85}):
        image.save(written := BytesIO(), "WEBP", method=6, **settings)
        if len(written.getvalue()) <= _LARGEST:
            break
    source = f"data:image/webp;base64,{b64encode(written.getvalue()).decode()}"
    return f'<img src="{source}" style="width:{width}px" alt="{escape(description)}">'


def _svg(figure: Figure, name: str, description: str, width: int) -> str:
    content = StringIO()
    with styled():
        figure.savefig(content, format="svg", dpi=144, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]+"', text)
    assert view is not None
    # In HTML the name spaces go without saying.
    head = f'<svg {view[0]} style="width:{width}px" role="img" aria-label="{escape(description)}">'
    text = re.sub(r"<svg[^>]*>", "", text, count=1)
    text = _in_tags(lambda tag: _IDS.sub(rf"\g<1>{name}-", tag.replace("xlink:href", "href")), text)
    text = _in_tags(lambda tag: _LONG_NUMBERS.sub(r"\1", tag) if "base64" not in tag else tag, text)
    text = re.sub(r"\s*\n\s*", "\n", text).replace("'DejaVu Sans'", _FONTS)
    return head + _with_classes(_without_unused_ids(text), name)


def _in_tags(change: Callable[[str], str], text: str) -> str:
    """Change the tags alone: names that others have written stand between them."""
    return _TAGS.sub(lambda found: change(found[0]), text)


def _without_unused_ids(text: str) -> str:
    used = {name for tag in _TAGS.findall(text) for name in _USED.findall(tag)}
    one = re.compile(r' id="([^"]*)"')
    return _in_tags(lambda tag: one.sub(lambda found: found[0] if found[1] in used else "", tag), text)


def _with_classes(text: str, name: str) -> str:
    """The elements of an SVG with a class for each style that they repeat: a third of the file was these styles."""
    classes: dict[str, str] = {}
    # A point in a selector, say, would begin another class.
    prefix = re.sub(r"[^\w-]", lambda other: f"_{ord(other[0]):x}_", name)

    def as_class(found: re.Match[str]) -> str:
        style = found[1].replace(": ", ":").replace("; ", ";")
        return f' class="{classes.setdefault(style, f"{prefix}-{len(classes)}")}"'

    text = _in_tags(lambda tag: re.sub(r' style="([^"]*)"', as_class, tag), text)
    return f"<style>{''.join(f'.{known}{{{style}}}' for style, known in classes.items())}</style>{text}"
