"""Tar shards, as webdataset and open_clip read them."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmark.export.layouts import LAYOUTS, CaptionSource, Layout, Sample, Samples
from benchmark.export.layouts.parts import strings, texts_beside
from benchmark.export.shards import read_shards, shard_names, write_shards


@LAYOUTS.register("webdataset", order=60)
class WebDataset(Layout):
    """Tar files.

    ``train-000000.tar`` …, a thousand samples each, as members ``00000000.png``, ``.txt`` and ``.json``.

    The JSON has all captions. The text has the first: trainers take the whole text for one caption.
    """

    hugging_face = "{split}-*.tar"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            write_shards(folder, split, map(self._files, samples))

    @staticmethod
    def _files(sample: Sample) -> dict[str, bytes]:
        captions = json.dumps({"captions": sample.captions})
        return {"png": sample.png, "txt": sample.captions[0].encode(), "json": captions.encode()}

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`. Exports of earlier versions have no text."""
        for files in read_shards(folder, split):
            captions = strings(json.loads(files["json"])["captions"])
            if "txt" in files and files["txt"].decode() != captions[0]:
                raise ValueError("a text is not the first caption")
            yield Sample(files["png"], captions)

    def open_clip_data(self, folder: Path, images: int) -> list[str]:
        """See :meth:`Layout.open_clip_data`."""
        *_, last = names = shard_names(folder, "train")
        data = last if len(names) == 1 else f"train-{{000000..{len(names) - 1:06d}}}.tar"
        # Without its size, open_clip refuses the data; with more workers than shards, too. Four is its default.
        workers = str(min(4, len(names)))
        return ["--train-data", data, "--train-num-samples", str(images), "--workers", workers]

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        # mlcroissant cannot look into JSON that it unpacks.
        return texts_beside(split)
