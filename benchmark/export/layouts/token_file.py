"""Flickr30k's token files, as torchvision reads them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from benchmark.export.inside import read_inside
from benchmark.export.layouts import LAYOUTS, Layout, Sample, Samples
from benchmark.export.layouts.parts import lines, write_images


@LAYOUTS.register("token", order=40)
class Token(Layout):
    """Captions in Flickr30k's .token format.

    ``train.token`` with a line ``train/00000000.png#0``, a tab, a caption for each caption, images in ``train/``.
    """

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            with (folder / f"{split}.token").open("w", encoding="utf-8", newline="") as file:
                for name, sample in write_images(folder / split, samples):
                    # torchvision drops the last two characters, so the number has one digit.
                    file.writelines(
                        f"{split}/{name}#{number % 10}\t{caption}\n" for number, caption in enumerate(sample.captions)
                    )

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        rows = [line.split("\t") for line in lines(read_inside(folder, f"{split}.token"))]
        for path, image_rows in itertools.groupby(rows, lambda row: row[0].rpartition("#")[0]):
            yield Sample(read_inside(folder, path), [caption for _, caption in image_rows])
