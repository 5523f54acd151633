"""One image file to the pixels a model sees."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.dataset import Images
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image


def read_image(path: Path, resolution: int) -> Images:
    """The image upright, in RGB, its shorter side resized to ``resolution`` (bicubic), and its centre cut out.

    Args:
        path: any format that Pillow reads; of an animation, the first picture.
        resolution: height and width of the result in pixels.

    Returns:
        (3, resolution, resolution) uint8.

    Raises:
        UsageError: the file is missing or cannot be read; the message names it.
    """
    return square(read_upright(path), resolution)


def read_upright(path: Path) -> "Image.Image":
    """The image in RGB, as large as it is.

    The orientation that a camera noted is applied, transparent parts lie on white, 16-bit grey is reduced to 8 bits.

    Raises:
        UsageError: the file is missing or cannot be read; the message names it.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            return _to_rgb(ImageOps.exif_transpose(opened))
    except FileNotFoundError as error:
        raise UsageError(f"image {path} does not exist") from error
    # Pillow reports broken files by many kinds of errors, depending on the format.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, Image.UnidentifiedImageError) else error
        raise UsageError(f"image {path} cannot be read: {reason}") from error


def square(image: "Image.Image", resolution: int) -> Images:
    """What a victim sees of an image in RGB: (3, resolution, resolution) uint8."""
    from PIL import Image

    size, box = square_within(image.size, resolution)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC).crop(box)).transpose(2, 0, 1)


def square_within(size: tuple[int, int], resolution: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """To which width and height an image is resized, and the box (left, top, right, bottom) then cut out of it."""
    width, height = size
    shorter = min(size)
    width, height = resolution * width // shorter, resolution * height // shorter
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return (width, height), (left, top, left + resolution, top + resolution)


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    if image.mode.startswith("I;16"):
        # Pillow would clip to 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image.convert("RGB")
