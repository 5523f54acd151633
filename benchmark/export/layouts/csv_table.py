"""A table of file names and captions, as open_clip reads it."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from benchmark.export.captions import rows_of, write_table
from benchmark.export.inside import read_inside
from benchmark.export.layouts import LAYOUTS, CaptionSource, Layout, Sample, Samples
from benchmark.export.layouts.parts import extracts, write_images


@LAYOUTS.register("csv", order=10)
class Csv(Layout):
    """A table with a row for each caption.

    ``train.csv`` with a row ``filepath,title`` for each caption, images in ``train/``.
    """

    hugging_face = "{split}.csv"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
                images = write_images(folder / split, samples)
                write_table(file, ((f"{split}/{name}", sample.captions) for name, sample in images))

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        rows = rows_of(read_inside(folder, f"{split}.csv").decode())
        for path, image_rows in itertools.groupby(rows, lambda row: row[0]):
            yield Sample(read_inside(folder, path), [caption for _, captions in image_rows for caption in captions])

    def open_clip_data(self, folder: Path, images: int) -> list[str]:
        """See :meth:`Layout.open_clip_data`."""
        return ["--train-data", "train.csv", "--csv-separator", ","]

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        return CaptionSource(f"{split}.csv", extracts("column", image="filepath", caption="title"))
