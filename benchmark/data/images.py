"""One image file to the pixels a model sees."""

import contextlib
import struct
from typing import TYPE_CHECKING

import numpy as np

from benchmark.core.errors import UsageError
from benchmark.data.dataset import Images
from benchmark.data.image_location import ImageLocation, open_image

if TYPE_CHECKING:
    from PIL import Image

# Pillow reports broken files by many kinds of errors, depending on the format.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, TypeError, EOFError, LookupError, AttributeError),
    *(ArithmeticError, NotImplementedError, struct.error),
)
_LONGEST = 16  # sides; resized whole, an image a thousand times as long as wide would fill the memory


class BadImage(UsageError):
    """An image that cannot be used, through a fault of its own: what ``skip_bad`` leaves out."""

    def reason_for(self, image: ImageLocation) -> str:
        """The message without the name of ``image`` before it: what still holds when the file is moved."""
        return str(self).removeprefix(f"image {image} ")


def read_image(source: ImageLocation, resolution: int) -> Images:
    """The image upright, in RGB, its shorter side resized to ``resolution`` (bicubic), and its centre cut out.

    Args:
        source: any format that Pillow reads; of an animation, the first picture.
        resolution: height and width of the result in pixels.

    Returns:
        (3, resolution, resolution) uint8.

    Raises:
        BadImage, UsageError: as :func:`read_upright`.
    """
    return square(read_upright(source), resolution)


def read_upright(source: ImageLocation) -> "Image.Image":
    """The image in RGB, as large as it is.

    The orientation that a camera noted is applied, transparent parts lie on white, 16 bits are reduced to 8.

    Raises:
        BadImage: there is no such file, or it is not an image, is cut short, has more than 179 million pixels or
            pixels of more than 16 bits; the message names it.
        UsageError: the disk fails.
    """
    from PIL import Image

    try:
        with open_image(source) as file, Image.open(file) as opened:
            _turn_upright(opened)
            return _to_rgb(opened)
    except FileNotFoundError as error:
        raise BadImage(f"image {source} does not exist") from error
    except (*_BROKEN, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UsageError(f"image {source} cannot be read: {error.strerror}") from error
        raise BadImage(f"image {source} cannot be read: {_reason(error)}") from error


def square(image: "Image.Image", resolution: int) -> Images:
    """What a victim sees of an image in RGB: (3, resolution, resolution) uint8.

    An image more than 16 times as long as wide is first cut to that.
    """
    from PIL import Image

    image = _to_length(image)
    size, box = square_within(image.size, resolution)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC).crop(box)).transpose(2, 0, 1)


def square_within(size: tuple[int, int], resolution: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """To which width and height an image is resized, and the box (left, top, right, bottom) then cut out of it."""
    width, height = size
    shorter = min(size)
    width, height = resolution * width // shorter, resolution * height // shorter
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return (width, height), (left, top, left + resolution, top + resolution)


def _reason(error: Exception) -> str:
    from PIL import Image

    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image, or of a format that Pillow does not read"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels"
    return " ".join(str(error).split()) or type(error).__name__


def _turn_upright(image: "Image.Image") -> None:
    from PIL import ImageOps

    # Decoded first, so that what goes wrong below is the camera's note and not the picture.
    image.load()
    # A broken note does not make the picture unreadable.
    with contextlib.suppress(*_BROKEN):
        ImageOps.exif_transpose(image, in_place=True)


def _to_length(image: "Image.Image") -> "Image.Image":
    width, height = image.size
    longest = _LONGEST * min(width, height)
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _to_rgb(image: "Image.Image") -> "Image.Image":
    from PIL import Image

    # What Pillow calls 32 bits is of 16 in these formats, which have no more.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # Pillow would clip to 255 instead of scaling.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError("pixels of 32 bits, whose range is unknown; save it with 8 or 16 bits")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")
