"""Lossless PNG encoding and decoding. The size of untrusted files is validated before they are decoded."""

import io

import numpy as np
from PIL import Image, PngImagePlugin

from benchmark.core.pictures import BROKEN, open_picture
from benchmark.data.dataset import Images


def profile_for_png(profile: bytes | None) -> bytes | None:
    """An ICC profile, unless it is so long that Pillow would write it into a PNG file and refuse to read the file."""
    return None if profile is None or len(profile) > PngImagePlugin.MAX_TEXT_CHUNK else profile


def encode_png(image: Images, profile: bytes | None) -> bytes:
    """Encode an image (3, H, W) uint8 as a PNG file with an ICC profile, if there is one that fits."""
    profile, buffer = profile_for_png(profile), io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0))).save(buffer, "PNG", icc_profile=profile)
    return buffer.getvalue()


def decode_png(content: bytes, side: int | None) -> Images:
    """Decode a PNG file in RGB to pixels (3, H, W) uint8.

    Args:
        content: the file.
        side: required height and width in pixels; ``None`` for any size that Pillow considers harmless.

    Raises:
        ValueError: the file is not a PNG, is damaged, is not RGB, or has another size.
    """
    try:
        with open_picture(io.BytesIO(content), ["PNG"]) as image:
            if image.mode != "RGB":
                raise ValueError(f"the image is {image.mode}, not RGB")
            if side is not None and image.size != (side, side):
                raise ValueError(f"the image is {image.width} × {image.height} px, not {side} × {side}")
            return np.asarray(image).transpose(2, 0, 1)
    except ValueError:
        raise
    except (*BROKEN, Image.DecompressionBombError) as error:
        raise ValueError(f"not a readable PNG: {error}") from error
