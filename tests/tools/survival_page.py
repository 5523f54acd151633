"""The page of results/protected-photos, made from what tests/tools/survival.py has measured."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from benchmark.core.spec import parse_spec
from benchmark.grid.records import Record, load_records

PHOTOS = "photos.json"
_VICTIMS = {
    "clean": "clean scenes",
    "em-wordwise": "noise as it was crafted, at 32 px",
    "png": "protected PNG",
    "jpeg-95": "the same through JPEG 95",
    "jpeg-75": "through JPEG 75",
    "half-size-jpeg-75": "half the size, JPEG 75",
    "quarter-size-jpeg-75": "a quarter of the size, JPEG 75",
    "crop-jpeg-75": "a tenth of width and height cropped, JPEG 75",
}
_HEAD = """# What is left of protected photos

Made by [tests/tools/survival.py](../../tests/tools/survival.py). It protects large scenes with `protect`, passes them
through what platforms do, and measures what is left of the noise and what victims lose:

```sh
python -m tests.tools.survival photos --work survival
python -m tests.tools.survival victims --work survival --seed 1   # and --seed 2
```
"""


def page(folder: Path) -> str:
    """What the files of a folder say, as Markdown."""
    parts = [_HEAD]
    if (folder / PHOTOS).is_file():
        parts.append(_noise(json.loads((folder / PHOTOS).read_text("utf-8"))))
    if (folder / "records").is_dir():
        parts.append(_victims(load_records(folder / "records")))
    return "\n".join(parts)


def _noise(measured: Mapping[str, Any]) -> str:
    rows = [
        [name, f"{each['share']:.0%}", f"{each['size']:.0%}", f"{each['correlation']:.2f}"]
        for name, each in measured["passages"].items()
    ]
    table = tabulate(
        rows,
        ["passage", "share", "size", "correlation"],
        tablefmt="github",
        disable_numparse=True,
        colalign=("left", *["right"] * 3),
    )
    sizes, seconds = measured["megabytes"], measured["cpu_seconds"]
    return f"""## Noise

From [{PHOTOS}]({PHOTOS}): {measured["photos"]} scenes of 4,000 × 3,000 px, painted at 800 px and enlarged, with grain
of σ = 2/255; noise that one surrogate has learned; written as PNG; read again at 64 px. *Share* is the projection on
the crafted noise, *size* the ratio of root mean squares.

{table}

PSNR {measured["psnr"]:.1f} dB, SSIM {measured["ssim"]:.3f} (window of 11 px, parts of 500 px), largest change
{measured["largest"]}/255. A photo takes {sizes["originals"]:.1f} MB as it was (JPEG 95), {sizes["jpeg"]:.1f} MB
protected as JPEG 95, {sizes["png"]:.1f} MB as PNG. One core takes {seconds["prepare"]:.2f} s to read it and make it
small, {seconds["jpeg"]:.2f} s to protect it as JPEG, {seconds["png"]:.2f} s as PNG ({measured["device"]}).
"""


def _victims(records: Sequence[Record]) -> str:
    by_row: dict[str, dict[int, float]] = {name: {} for name in _VICTIMS}
    for record in records:
        # …/seed-1/train.csv, or …/seed-1/jpeg-75/captions.csv
        train = Path(str(parse_spec(record.dataset.spec).params["train"]))
        row = record.attack.spec if train.name == "train.csv" else train.parent.name
        by_row[row][record.seed] = record.last.test.mean_recall_at_10
    seeds = sorted({record.seed for record in records})
    rows = [
        [_VICTIMS[row], *(f"{values[seed]:.1f}" if seed in values else "–" for seed in seeds)]
        for row, values in by_row.items()
    ]
    headers = ["victims trained on", *(f"seed {seed}" for seed in seeds)]
    table = tabulate(
        rows, headers, tablefmt="github", disable_numparse=True, colalign=("left", *["right"] * len(seeds))
    )
    return f"""## Victims

From [records](records): 2,000 training scenes of 150 objects, stored at 384 px; victims of preset micro, which see
32 px. R@10 in percent after the last epoch on 1,000 clean test scenes, mean of both directions.

{table}

The crop leaves as much noise as the other passages, but at another scale and place than the tile was made for.
"""
