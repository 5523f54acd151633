"""A photo in its own colour space, with what describes it: read at full size, and written as JPEG or PNG."""

import contextlib
import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from benchmark.core.errors import UsageError, as_usage_error
from benchmark.core.idle_cpus import usable_cpus
from benchmark.core.pictures import BROKEN, FORMATS
from benchmark.data.image_location import ImageLocation
from benchmark.data.images import on_white, opened, to_8_bits, turn_upright
from benchmark.export.images import profile_for_png

Kind = Literal["jpeg", "png"]
SUFFIXES = {"jpeg": (".jpg", ".jpeg"), "png": (".png",)}
_MOST_EXIF, _LONGEST_SIDE = 65_533, 65_500  # bytes and pixels of a JPEG
_MOST_WORKERS = 8  # each holds a photo in memory, and may hold the original
# Tags that describe a photo and not how its pixels lie in the file: all that a TIFF's own list is left with.
_CAMERA = 34665
_MAKERS_NOTE = 37500
_DESCRIBING = {270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, _CAMERA, 34853, *range(40091, 40096)}


@dataclass(frozen=True)
class Photo:
    """A photo at full size, upright, 8 bits.

    Attributes:
        pixels: (H, W, 3) uint8, or (H, W) uint8 of a grey photo, in the photo's own colour space; the caller may change
            them.
        alpha: (H, W) uint8; ``None`` for an opaque photo.
        profile: the ICC profile that says what colours the pixels are; ``None`` for none.
        exif: EXIF data without orientation and preview; empty for none.
    """

    pixels: NDArray[np.uint8]
    alpha: NDArray[np.uint8] | None
    profile: bytes | None
    exif: bytes

    @classmethod
    def read(cls, source: ImageLocation, kind: Kind, formats: Sequence[str] = FORMATS) -> "Photo":
        """Read a photo for a file of that kind. For JPEG, transparent parts are put on white.

        Grey, RGB and palettes stay in their colour space. CMYK and Lab are converted to sRGB.

        Raises:
            BadImage, UsageError: as :func:`benchmark.data.images.read_upright`.
        """
        with opened(source, formats) as image:
            turn_upright(image)
            exif, profile = _exif(image), image.info.get("icc_profile")
            picture, profile = _in_colours(to_8_bits(image), profile)
            if picture.mode in ("LA", "RGBA") and kind == "jpeg":
                picture = on_white(picture).convert("L" if picture.mode == "LA" else "RGB")
            alpha = np.array(picture.getchannel("A")) if picture.mode in ("LA", "RGBA") else None
            colours = picture.convert("L" if picture.mode in ("L", "LA") else "RGB")
            return cls(np.array(colours), alpha, profile, exif)

    def picture(self) -> Image.Image:
        """Pixels and transparency as Pillow has them: of mode L, LA, RGB or RGBA."""
        image = Image.fromarray(self.pixels)
        if self.alpha is not None:
            image.putalpha(Image.fromarray(self.alpha))
        return image

    def encode(self, kind: Kind, quality: int) -> bytes:
        """The photo as a file.

        Args:
            kind: of file.
            quality: of a JPEG, 1 to 100; its colours have full resolution (4:4:4).

        Raises:
            UsageError: a JPEG cannot hold it (EXIF data above 64 KiB, a side above 65,500 pixels).
        """
        image, file = self.picture(), io.BytesIO()
        profile = self.profile if kind == "jpeg" else profile_for_png(self.profile)
        about = {"exif": self.exif, **({"icc_profile": profile} if profile else {})}
        with as_usage_error(f"cannot be written as {kind.upper()}", (OSError, ValueError)):
            if kind == "jpeg":
                image.save(file, "JPEG", quality=quality, subsampling=0, **about)
            else:
                # Noise hardly compresses: the highest level takes three times as long to save a seventh.
                image.save(file, "PNG", compress_level=1, **about)
        return file.getvalue()


def require_fit(source: ImageLocation, kind: Kind) -> None:
    """Require that a photo fits into a file of that kind, from its header alone.

    Raises:
        UsageError: a file of that kind cannot hold it.
        BadImage: as :func:`benchmark.data.images.read_upright`.
    """
    with opened(source, FORMATS) as image:
        profile = None if image.mode in ("CMYK", "LAB") else image.info.get("icc_profile")
        if kind == "png" and profile_for_png(profile) != profile:
            raise UsageError(
                f"photo {source} does not fit into a PNG, whose colour profile may have 1 MiB; leave it out, or write "
                "JPEG (--format jpeg)"
            )
        if kind == "jpeg" and (len(_exif(image)) > _MOST_EXIF or max(image.size) > _LONGEST_SIDE):
            raise UsageError(
                f"photo {source} does not fit into a JPEG, which has {_MOST_EXIF:,} bytes for EXIF data and sides of "
                f"up to {_LONGEST_SIDE:,} px; leave it out, or write PNG (--format png)"
            )


def has_more_pictures(source: ImageLocation) -> bool:
    """Whether a file holds others behind its first picture: an animation or pages."""
    with opened(source, FORMATS) as image, contextlib.suppress(*BROKEN):
        return bool(getattr(image, "is_animated", False))
    return False


def name_as(name: str, kind: Kind) -> str:
    """The name of a photo's file of that kind: its own, with another suffix where the suffix would be wrong."""
    path = PurePosixPath(name)
    return name if path.suffix.lower() in SUFFIXES[kind] else str(path.with_suffix(SUFFIXES[kind][0]))


def _in_colours(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """The image as L, LA, RGB or RGBA, and the profile that holds for it."""
    if image.has_transparency_data:
        return image.convert("LA" if image.mode in ("L", "LA", "La") else "RGBA"), profile
    if image.mode in ("L", "1"):
        return image.convert("L"), profile
    if image.mode == "CMYK":
        return _from_cmyk(image, profile)
    return image.convert("RGB"), None if image.mode == "LAB" else profile  # Pillow makes sRGB of Lab


def _from_cmyk(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, bytes | None]:
    """Convert CMYK to RGB, because the noise is in red, green and blue.

    With a usable profile the colours are known and are converted to sRGB; otherwise Pillow's own conversion is taken.
    """
    if profile:
        # A broken profile says nothing about the colours.
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            converted = ImageCms.profileToProfile(
                image, io.BytesIO(profile), io.BytesIO(srgb_profile()), outputMode="RGB"
            )
            if converted is not None:
                return converted, srgb_profile()
    return image.convert("RGB"), None


def srgb_profile() -> bytes:
    """An ICC profile of sRGB, always the same bytes: Pillow's holds the time at which it was made."""
    content = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return content[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + content[36:]


def _exif(image: Image.Image) -> bytes:
    """EXIF data of an upright image, without previews, which would show the photo without noise.

    Pillow leaves out the standard one. Some cameras keep another in their own notes, and Photoshop one in a tag of its
    own. Notes are left out, and so is every tag that does not describe the photo.
    """
    # Broken EXIF data do not make a photo unreadable.
    with contextlib.suppress(Exception):
        exif = image.getexif()
        for tag in exif.keys() - _DESCRIBING:
            del exif[tag]
        exif.get_ifd(_CAMERA).pop(_MAKERS_NOTE, None)
        # Pillow reads texts as Latin-1, and would write ? for whatever is not ASCII, such as © in UTF-8.
        for tags in (exif, exif.get_ifd(_CAMERA)):
            for tag, value in list(tags.items()):
                if isinstance(value, str) and not value.isascii():
                    tags[tag] = value.encode("latin-1")
        return exif.tobytes() if exif else b""
    return b""


def photo_workers() -> int:
    """How many threads handle photos, each one at a time."""
    return min(_MOST_WORKERS, usable_cpus())
