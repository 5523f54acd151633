"""From an image file to the pixels that a model sees."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from benchmark.core.errors import UsageError, in_one_line
from benchmark.core.pictures import BROKEN, FORMATS, MOST_PIXELS, open_picture
from benchmark.data.dataset import Images
from benchmark.data.image_location import ImageLocation, open_image

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 16  # longest side / shortest side; resizing an image a thousand times as long as wide would fill the memory
_BAND = 2**20  # pixels of a transparent image that are put on white at a time


class BadImage(UsageError):
    """An image that is itself unusable (missing, broken, not permitted): ``skip_bad`` leaves it out."""

    def reason_for(self, image: ImageLocation) -> str:
        """The message without the leading name of ``image``, so that it stays true if the file is moved."""
        return str(self).removeprefix(f"image {image} ")


def read_image(source: ImageLocation, resolution: int) -> Images:
    """Read an image: upright, in RGB, the shorter side resized to ``resolution`` (bicubic), then centre-cropped.

    Args:
        source: in one of the :data:`FORMATS <benchmark.core.pictures.FORMATS>`; of an animation, the first frame is
            used.
        resolution: height and width of the result in pixels.

    Returns:
        (3, resolution, resolution) uint8.

    Raises:
        BadImage, UsageError: as :func:`read_upright`.
    """
    return square(read_upright(source), resolution)


def read_upright(source: ImageLocation) -> "Image.Image":
    """Read an image in RGB at its original size.

    The camera's orientation tag (EXIF) is applied, transparent parts are put on white, 16 bits are reduced to 8.

    Raises:
        BadImage: the file does not exist, is not an image, is cut short, or has more than 89 million pixels or pixels
            of more than 16 bits; the message names it.
        UsageError: the disk fails.
    """
    with opened(source) as image:
        turn_upright(image)
        return _to_rgb(image)


def size_of(source: ImageLocation) -> tuple[int, int]:
    """Width and height of an image in pixels, possibly swapped (EXIF is ignored), without decoding it.

    Raises:
        BadImage, UsageError: as :func:`read_upright`.
    """
    with opened(source) as image:
        return image.size


@contextlib.contextmanager
def opened(source: ImageLocation, formats: Sequence[str] = FORMATS) -> "Iterator[Image.Image]":
    """Open an image in one of some formats while the block runs; raises what :func:`read_upright` does."""
    from PIL import Image

    try:
        with open_image(source) as file, open_picture(file, formats) as image:
            yield image
    except FileNotFoundError as error:
        raise BadImage(f"image {source} does not exist") from error
    except (*BROKEN, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UsageError(f"image {source} cannot be read: {error.strerror}") from error
        raise BadImage(f"image {source} cannot be read: {_reason(error, formats)}") from error


def square(image: "Image.Image", resolution: int) -> Images:
    """Resize and centre-crop an RGB image to what a victim sees: (3, resolution, resolution) uint8.

    An image more than 16 times as long as wide is first cropped to that ratio.
    """
    from PIL import Image

    image = _to_length(image)
    size, box = square_within(image.size, resolution)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC).crop(box)).transpose(2, 0, 1)


def square_within(size: tuple[int, int], resolution: int) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The width and height that an image is resized to, and the crop box (left, top, right, bottom) after that."""
    width, height = size
    shorter = min(size)
    width, height = resolution * width // shorter, resolution * height // shorter
    left, top = round((width - resolution) / 2), round((height - resolution) / 2)
    return (width, height), (left, top, left + resolution, top + resolution)


def _reason(error: Exception, formats: Sequence[str]) -> str:
    from PIL import Image

    if isinstance(error, Image.UnidentifiedImageError):
        which = "one of the formats" if len(formats) > 1 else "the format"
        return f"not an image in {which} {', '.join(formats)}"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MOST_PIXELS:,} pixels"
    return in_one_line(error)


def turn_upright(image: "Image.Image") -> None:
    """Decode an image and turn it, in place, as its camera's orientation tag says, which is then gone."""
    from PIL import ImageOps

    _scale_transparent_value(image)
    # Decode first, so that an error below comes from the EXIF data and not from the picture.
    image.load()
    # Broken EXIF data do not make the picture unreadable.
    with contextlib.suppress(*BROKEN):
        ImageOps.exif_transpose(image, in_place=True)


def _scale_transparent_value(image: "Image.Image") -> None:
    """Bring a PNG's transparent value to 8 bits, in place, for Pillow brings only the pixels; before it is decoded."""
    from PIL import PngImagePlugin

    clear = image.info.get("transparency")
    if clear is None or not isinstance(image, PngImagePlugin.PngImageFile) or not image.tile:
        return
    layout = image.tile[0].args
    if layout in ("L;2", "L;4"):
        image.info["transparency"] = clear * (85 if layout == "L;2" else 17)
    elif layout == "RGB;16B":
        image.info["transparency"] = tuple(value >> 8 for value in clear)


def _to_length(image: "Image.Image") -> "Image.Image":
    width, height = image.size
    longest = _LONGEST * min(width, height)
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    return image.crop((left, top, width - left, height - top)) if left or top else image


def _to_rgb(image: "Image.Image") -> "Image.Image":

    image = to_8_bits(image)
    if image.has_transparency_data:
        return on_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def to_8_bits(image: "Image.Image") -> "Image.Image":
    """An image as it is, or a grey one of 16 bits reduced to 8.

    Raises:
        ValueError: more than 16 bits, or a grey TIFF of 9 to 15 bits or with white as zero.
    """
    from PIL import Image

    # Pillow reports these formats as 32-bit, but they hold at most 16 bits.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        # TIFF's tags 258 and 262 are the bits of a sample and what zero means; Pillow rescales and inverts neither.
        tags = getattr(image, "tag_v2", {})
        if tags.get(258, (16,)) != (16,) or tags.get(262) == 0:
            raise ValueError("grey with 9 to 15 bits or with white as zero; save it as PNG")
        # Pillow would clip to 255 instead of rescaling.
        values = np.asarray(image)
        grey = Image.fromarray((values >> 8).astype(np.uint8))
        if (transparent := image.info.get("transparency")) is not None:
            grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
        return grey
    if image.mode in ("I", "F"):
        raise ValueError("32-bit pixels, whose range is unknown; save it with 8 or 16 bits")
    return image


def on_white(image: "Image.Image") -> "Image.Image":
    """A transparent image on white. In bands, for whole it would take twenty bytes a pixel."""
    from PIL import Image

    whole = Image.new("RGB", image.size)
    rows = max(1, _BAND // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))).convert("RGBA")
        whole.paste(Image.alpha_composite(Image.new("RGBA", band.size, "white"), band).convert("RGB"), (0, top))
    return whole
