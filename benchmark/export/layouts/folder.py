"""Text files beside the images."""

from collections.abc import Iterator
from pathlib import Path

from benchmark.export.inside import read_inside
from benchmark.export.layouts import LAYOUTS, CaptionSource, Layout, Sample, Samples
from benchmark.export.layouts.parts import lines, texts_beside, write_images


@LAYOUTS.register("folder", order=0)
class Folder(Layout):
    """A text file beside each image.

    ``train/00000000.png`` and beside it ``train/00000000.txt`` with one caption per line.
    """

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            for name, sample in write_images(folder / split, samples):
                text = "".join(f"{caption}\n" for caption in sample.captions)
                (folder / split / name).with_suffix(".txt").write_bytes(text.encode())

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        for path in sorted((folder / split).glob("*.png")):
            captions = lines(read_inside(folder, f"{split}/{path.stem}.txt"))
            yield Sample(read_inside(folder, f"{split}/{path.name}"), captions)

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        return texts_beside(split)
