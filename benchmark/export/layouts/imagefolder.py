"""Folders with metadata, as Hugging Face reads them."""

import json
from collections.abc import Iterator
from pathlib import Path

from benchmark.export.inside import read_inside
from benchmark.export.layouts import HUGGING_FACE_SPLITS, LAYOUTS, CaptionSource, Layout, Sample, Samples
from benchmark.export.layouts.parts import extracts, lines, strings, write_images


@LAYOUTS.register("imagefolder", order=50)
class ImageFolder(Layout):
    """Folders that Hugging Face's imagefolder reads.

    ``train/00000000.png`` and ``train/metadata.jsonl``, as Hugging Face's ``imagefolder`` reads them.
    """

    hugging_face = "{name}/*"
    _TABLE = "metadata.jsonl"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            inner = folder / HUGGING_FACE_SPLITS[split]
            rows = [{"file_name": name, "captions": s.captions} for name, s in write_images(inner, samples)]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (inner / self._TABLE).write_bytes(text.encode())

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        inner = HUGGING_FACE_SPLITS[split]
        for line in lines(read_inside(folder, f"{inner}/{self._TABLE}")):
            row = json.loads(line)
            yield Sample(read_inside(folder, f"{inner}/{row['file_name']}"), strings(row["captions"]))

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        fields = extracts("column", image="file_name", captions="captions")
        return CaptionSource(f"{HUGGING_FACE_SPLITS[split]}/{self._TABLE}", fields)
