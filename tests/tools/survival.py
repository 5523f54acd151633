"""What is left of protected photos after platforms and scrapers, as noise and as a victim's lost recall.

    python -m tests.tools.survival photos --work DIR    # a few scenes of 12 megapixels, preset tiny
    python -m tests.tools.survival victims --work DIR   # 2,000 scenes of 384 pixels, victims of preset micro

Photos are scenes of the suite, painted large. Everything in the working folder is kept, and made only once. Records
name it, so let it be relative. What is measured goes to results/protected-photos, with a page made from it.
"""

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from PIL import Image

from attacks import Poison
from benchmark.cli.main import main as command
from benchmark.core.atomic_files import replacing
from benchmark.core.progress import tracked
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset
from benchmark.data.dataset import Images
from benchmark.data.difference import Difference, summed_ssim
from benchmark.data.images import read_image, square
from benchmark.export.photo import Kind, Photo
from benchmark.export.read_back import add_difference
from benchmark.export.repeated_noise import add_repeated, tile_of
from benchmark.grid.provenance import device_name, git_commit, versions
from benchmark.grid.run import run
from benchmark.grid.settings import RunSettings
from tests.tools.survival_page import PHOTOS, page

Passage = Callable[[Image.Image], Image.Image]
_WIDTH, _HEIGHT = 4000, 3000
_PAINTED = 800  # pixels; enlarged from there, since painting at 4,000 takes minutes a scene
_SIDE = 384  # pixels of a scene that victims train on
_TILE = 500  # pixels, side of the parts in which SSIM is computed


def jpeg(quality: int) -> Passage:
    """JPEG as platforms write it, with colours at half resolution."""

    def passed(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return passed


def long_side(pixels: int) -> Passage:
    """Made smaller until the longer side has so many pixels, then JPEG 75."""

    def passed(image: Image.Image) -> Image.Image:
        image = image.copy()
        image.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
        return jpeg(75)(image)

    return passed


def cropped(image: Image.Image) -> Image.Image:
    """A tenth of width and height cut off, half of it on each side, then JPEG 75."""
    width, height = image.size
    left, top = round(width * 0.05), round(height * 0.05)
    return jpeg(75)(image.crop((left, top, width - left, height - top)))


PHOTO_PASSAGES: Mapping[str, Passage] = {
    "as written": lambda image: image,
    "JPEG 95": jpeg(95),
    "JPEG 75": jpeg(75),
    "2048 px, JPEG 75": long_side(2048),
    "1080 px, JPEG 75": long_side(1080),
    "10 % crop, JPEG 75": cropped,
}
VICTIM_PASSAGES: Mapping[str, Passage] = {
    "png": lambda image: image,
    "jpeg-95": jpeg(95),
    "jpeg-75": jpeg(75),
    "half-size-jpeg-75": long_side(_SIDE // 2),
    "quarter-size-jpeg-75": long_side(_SIDE // 4),
    "crop-jpeg-75": cropped,
}


def paint(spec: str, resolution: int, work: Path) -> Mapping[str, CaptionDataset]:
    """Scenes at a resolution, by split."""
    splits = DATASETS.build(parse_spec(spec)).load(resolution, work / "cache")
    return {"train": splits.train, "val": splits.val, "test": splits.test}


def write(data: CaptionDataset, table: Path, size: tuple[int, int], grain: float = 0.0) -> None:
    """Save scenes as JPEG files of a size, cut from their middle, and a table of their captions beside the folder.

    Smaller scenes are enlarged. ``grain`` is the standard deviation of a camera's noise, in 1/255.
    """
    folder = table.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    rows = [("filepath", "title")]
    for number, captions in enumerate(tracked(data.captions, f"writing {folder.name}", len(data))):
        image = Image.fromarray(data.images[number].transpose(1, 2, 0))
        image = image.resize((max(size), max(size)), Image.Resampling.BICUBIC)
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        name = f"{number:05}.jpg"
        image = image.crop((left, top, left + size[0], top + size[1]))
        if grain:
            noise = np.random.default_rng(number).normal(0, grain, (size[1], size[0], 1))
            image = Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))
        image.save(folder / name, quality=95, subsampling=0)
        rows += [(f"{folder.name}/{name}", caption) for caption in captions]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def seen(image: Image.Image, passage: Passage, resolution: int) -> Images:
    """What a victim sees of a photo that has passed a platform."""
    return square(passage(image).convert("RGB"), resolution)


def measure_photos(work: Path, count: int) -> dict[str, Any]:
    """Protect photos of 12 megapixels; how strong, visible, large and slow that is."""
    table = work / "photos.csv"
    if not table.exists():
        scenes = paint(f"scenes[train={count},val=1,test=1,objects=30,seed=1]", _PAINTED, work)["train"]
        write(scenes, table, (_WIDTH, _HEIGHT), grain=2.0)
    for kind in ("png", "jpeg"):
        flags = ["--attack", "em-wordwise[restarts=1]", "--precision", "fp32"]
        flags += ["--poisons", str(work / "poisons"), "--cache", str(work / "cache")]
        if command(["protect", str(table), "--out", str(work / kind), "--format", kind, *flags]):
            sys.exit(1)
    (stored,) = (work / "poisons").glob("*.safetensors")
    poison = Poison.load(stored)
    assert poison.delta is not None
    resolution = poison.delta.shape[-1]
    sums = {name: np.zeros(3) for name in PHOTO_PASSAGES}
    sizes: dict[str, list[int]] = {"originals": [], "png": [], "jpeg": []}
    difference, similarity = Difference(), []
    manifest = json.loads((work / "png/manifest.json").read_text())
    for number, photo in enumerate(tracked(manifest["photos"], "measuring")):
        files = {"originals": work / photo["source"], "png": work / "png" / photo["file"]}
        files["jpeg"] = work / "jpeg" / photo["source"]
        for name, file in files.items():
            sizes[name].append(file.stat().st_size)
        before, after = (Image.open(files[name]).convert("RGB") for name in ("originals", "png"))
        crafted = poison.delta[number].astype(np.float64)
        for name, passage in PHOTO_PASSAGES.items():
            left = seen(after, passage, resolution).astype(np.float64) - seen(before, passage, resolution)
            sums[name] += [(left * crafted).sum(), (crafted**2).sum(), (left**2).sum()]
        pixels = np.asarray(before), np.asarray(after)
        add_difference(difference, *pixels)
        for top in range(0, _HEIGHT, _TILE * 3):
            parts = (each[None, top : top + _TILE, :_TILE].transpose(0, 3, 1, 2) for each in pixels)
            similarity.append(summed_ssim(*parts))
    return {
        "photos": len(manifest["photos"]),
        "psnr": difference.psnr,
        "ssim": float(np.mean(similarity)),
        "largest": difference.largest,
        "megabytes": {name: float(np.mean(each)) / 1e6 for name, each in sizes.items()},
        "cpu_seconds": _cpu_seconds(
            [work / photo["source"] for photo in manifest["photos"]], poison, manifest["period"]
        ),
        "passages": {
            name: {
                "share": float(product / crafted_power),
                "size": float(np.sqrt(power / crafted_power)),
                "correlation": float(product / np.sqrt(crafted_power * power)),
            }
            for name, (product, crafted_power, power) in sums.items()
        },
    }


def _cpu_seconds(files: Sequence[Path], poison: Poison, period: int) -> dict[str, float]:
    """Processor seconds of one core for a photo, mean over files, by step of ``protect``."""
    assert poison.delta is not None
    resolution, seconds = poison.delta.shape[-1], dict.fromkeys(("prepare", "jpeg", "png"), 0.0)
    for file, noise in zip(files, poison.delta, strict=True):
        start = time.thread_time()
        read_image(file, resolution)
        seconds["prepare"] += time.thread_time() - start
        for kind in get_args(Kind):
            start = time.thread_time()
            photo = Photo.read(file, kind)
            add_repeated(photo.pixels, tile_of(noise, period), resolution)
            photo.encode(kind, 95)
            seconds[kind] += time.thread_time() - start
    return {step: total / len(files) for step, total in seconds.items()}


def measure_victims(work: Path, out: Path, seed: int, train: int) -> None:
    """Train victims on what is left of protected scenes, and on clean ones; records go to a folder."""
    place = work / f"seed-{seed}"
    flags = ["--poisons", str(place / "poisons"), "--cache", str(place / "cache")]
    if not (place / "test.csv").exists():
        spec = f"scenes[train={train},val=200,test=1000,objects=150,seed={seed}]"
        for split, scenes in paint(spec, _SIDE, place).items():
            write(scenes, place / f"{split}.csv", (_SIDE, _SIDE))
    protected = place / "protected"
    arguments = ["protect", str(place / "train.csv"), "--out", str(protected), "--format", "png", "--preset", "micro"]
    if command([*arguments, "--seed", str(seed), *flags]):
        sys.exit(1)
    tables = {"originals": place / "train.csv"}
    for name, passage in VICTIM_PASSAGES.items():
        tables[name] = place / name / "captions.csv"
        if not tables[name].exists():
            pass_on(protected, place / name, passage)
    for name, table in tables.items():
        settings = RunSettings(
            attack="clean,em-wordwise" if name == "originals" else "clean",
            defense="none",
            dataset=f"csv[train={table},val={place}/val.csv,test={place}/test.csv]",
            preset="micro",
            seeds=f"{seed},",
            poisons=str(place / "poisons"),
            cache=place / "cache",
            out=out,
        )
        run(settings)


def pass_on(protected: Path, folder: Path, passage: Passage) -> None:
    """What a platform makes of protected photos, as lossless files, with the same captions."""
    folder.mkdir(exist_ok=True)
    for file in tracked(sorted(protected.rglob("*.png")), folder.name):
        place = folder / file.relative_to(protected)
        place.parent.mkdir(parents=True, exist_ok=True)
        passage(Image.open(file).convert("RGB")).save(place, compress_level=1)
    (folder / "captions.csv").write_bytes((protected / "captions.csv").read_bytes())


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("photos", "victims"))
    parser.add_argument("--work", type=Path, required=True, help="folder for what is made on the way")
    parser.add_argument("--out", type=Path, default=Path("results/protected-photos"), help="folder of what is measured")
    parser.add_argument("--count", type=int, default=8, help="photos of 12 megapixels")
    parser.add_argument("--train", type=int, default=2000, help="scenes to train on")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    if arguments.what == "photos":
        measured = measure_photos(work, arguments.count)
        provenance = {"commit": git_commit(), "device": device_name(torch.device("cpu")), "versions": versions()}
        with replacing(arguments.out / PHOTOS) as temporary:
            temporary.write_text(json.dumps({**measured, **provenance}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    else:
        measure_victims(work, arguments.out / "records", arguments.seed, arguments.train)
    with replacing(arguments.out / "README.md") as temporary:
        temporary.write_text(page(arguments.out), "utf-8")


if __name__ == "__main__":
    main()
