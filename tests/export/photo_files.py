"""Photos as people have them: of several sizes, modes and formats, turned, with profiles, in sub-folders."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()  # of any kind: only its bytes count
ORIENTATION, ARTIST, COPYRIGHT, CAMERA = 0x0112, 315, 33432, 0x8769


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth picture with values far enough from black and white for noise of any sign."""
    small = np.random.default_rng(seed).integers(40, 216, (4, 5, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def seven_photos(folder: Path) -> dict[str, str]:
    """Seven photos, no two alike; returns the caption of each by its name."""
    (folder / "holiday/day 2").mkdir(parents=True)
    exif = picture(1, 1).getexif()
    exif[ORIENTATION], exif[ARTIST], exif[COPYRIGHT] = 6, "Ann", "© Ann, all rights reserved".encode()
    exif.get_ifd(CAMERA)[0x9003] = "2024:05:01 10:00:00"
    picture(150, 100).save(folder / "turned.JPG", quality=97, subsampling=0, exif=exif, icc_profile=PROFILE)
    picture(90, 130, 1).save(folder / "holiday/beach.png", icc_profile=PROFILE)
    picture(120, 80, 2).convert("L").save(folder / "holiday/day 2/grey.jpeg", quality=97)
    faded = picture(100, 100, 3)
    faded.putalpha(Image.fromarray(np.linspace(0, 255, 10000).reshape(100, 100).astype(np.uint8)))
    faded.save(folder / "seen through.png")
    picture(110, 70, 4).convert("P", palette=Image.Palette.ADAPTIVE).save(folder / "few colours.gif")
    picture(96, 64, 5).convert("CMYK").save(folder / "print.tif", icc_profile=PROFILE)
    picture(300, 70, 6).save(folder / "wide.webp", lossless=True)
    return {
        "turned.JPG": "two children on a beach",
        "holiday/beach.png": "a beach, with a red boat",
        "holiday/day 2/grey.jpeg": "a grey day on the beach",
        "seen through.png": "a ghost",
        "few colours.gif": "a red boat",
        "print.tif": "two red lighthouses",
        "wide.webp": "eine Küste ohne Boot",
    }


def with_table(folder: Path) -> dict[str, str]:
    """The seven photos with a table of their captions."""
    captions = seven_photos(folder)
    rows = "".join(f'{name},"{caption}"\n' for name, caption in captions.items())
    (folder / "captions.csv").write_text("filepath,title\n" + rows, encoding="utf-8")
    return captions


def many_photos(folder: Path, count: int) -> None:
    """Small photos with a text file beside each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(80, 60, number).save(folder / f"{number:03}.jpg", quality=95)
        (folder / f"{number:03}.txt").write_text(f"photo {number % 5} of {number}\n")
