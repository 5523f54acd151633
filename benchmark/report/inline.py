"""Figures inside a page: SVG whose text stays text, whose ink follows the page and whose ids are its own."""

import re
from html import escape
from io import StringIO

from matplotlib.figure import Figure

from benchmark.figures.style import INK, styled

_IDS = re.compile(r'(\bid="|href="#|url\(#)')
# Verdana is as wide as DejaVu Sans, all others are narrower: nothing overlaps where the font is not there.
_FONTS = "'DejaVu Sans', Verdana, sans-serif"
_PIXELS = 110  # of the page, an inch


def inline_svg(figure: Figure, name: str, description: str) -> str:
    """A figure as an ``svg`` element.

    Args:
        figure: as :mod:`benchmark.figures` draws it.
        name: unique on the page; every id in the figure begins with it.
        description: for those who do not see it.
    """
    content = StringIO()
    with styled():
        figure.savefig(content, format="svg", transparent=True, dpi=144, metadata={"Date": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]+"', text)
    assert view is not None
    # In HTML the name spaces go without saying.
    size = f"width:{figure.get_figwidth() * _PIXELS:.0f}px"
    head = f'<svg {view[0]} style="{size}" role="img" aria-label="{escape(description)}">'
    text = re.sub(r"<svg[^>]*>", head, text, count=1)
    text = text.replace("xlink:href", "href")
    text = _IDS.sub(rf"\g<1>{name}-", text)
    return text.replace(INK, "currentColor").replace("'DejaVu Sans'", _FONTS)
