"""Karpathy's JSON."""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.export.inside import read_inside
from benchmark.export.layouts import LAYOUTS, CaptionSource, Layout, Sample, Samples
from benchmark.export.layouts.parts import extracts, strings, write_images


@LAYOUTS.register("karpathy", order=20)
class Karpathy(Layout):
    """One JSON file in Karpathy's format.

    ``dataset_export.json`` in Karpathy's format for all splits, images in ``train/``, ``val/``, ``test/``.
    """

    _TABLE = "dataset_export.json"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        images: list[dict[str, Any]] = []
        sentences = itertools.count()
        for split, samples in splits.items():
            for name, sample in write_images(folder / split, samples):
                written = [
                    {"tokens": caption.split(), "raw": caption, "imgid": len(images), "sentid": next(sentences)}
                    for caption in sample.captions
                ]
                row = {"filename": name, "filepath": split, "split": split, "imgid": len(images)}
                images.append(row | {"sentids": [sentence["sentid"] for sentence in written], "sentences": written})
        content = json.dumps({"images": images, "dataset": "export"}, ensure_ascii=False)
        (folder / self._TABLE).write_bytes(content.encode())

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        for row in json.loads(read_inside(folder, self._TABLE))["images"]:
            if row["split"] == split:
                png = read_inside(folder, f"{row['filepath']}/{row['filename']}")
                yield Sample(png, strings([sentence["raw"] for sentence in row["sentences"]]))

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        fields = extracts(
            "jsonPath", split="images[*].split", image="images[*].filename", captions="images[*].sentences"
        )
        fields["captions"]["transform"] = {"jsonPath": "raw"}
        return CaptionSource(self._TABLE, fields)
