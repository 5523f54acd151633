"""COCO's JSON, as pycocotools and torchvision read it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmark.export.inside import read_inside, size_of_png
from benchmark.export.layouts import LAYOUTS, CaptionSource, Layout, Sample, Samples
from benchmark.export.layouts.parts import extracts, strings, write_images


@LAYOUTS.register("coco", order=30)
class Coco(Layout):
    """JSON as COCO's captions.

    ``annotations/captions_train.json`` in COCO's format, images in ``train/``; an image's id is its number.
    """

    @staticmethod
    def _table(split: str) -> str:
        return f"annotations/captions_{split}.json"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        (folder / "annotations").mkdir()
        for split, samples in splits.items():
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for name, sample in write_images(folder / split, samples):
                width, height = size_of_png(sample.png)
                row = {"id": len(images), "file_name": name, "width": width, "height": height}
                # Programs for COCO take the id 0 of an annotation for none.
                annotations += [
                    {"id": number, "image_id": row["id"], "caption": caption}
                    for number, caption in enumerate(sample.captions, len(annotations) + 1)
                ]
                images.append(row)
            content = {"info": {"description": split}, "licenses": [], "images": images, "annotations": annotations}
            (folder / self._table(split)).write_bytes(json.dumps(content, ensure_ascii=False).encode())

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        content = json.loads(read_inside(folder, self._table(split)))
        captions: dict[int, list[str]] = {row["id"]: [] for row in content["images"]}
        for row in content["annotations"]:
            captions[row["image_id"]].append(row["caption"])
        for row in content["images"]:
            yield Sample(read_inside(folder, f"{split}/{row['file_name']}"), strings(captions[row["id"]]))

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        fields = extracts("jsonPath", image="annotations[*].image_id", caption="annotations[*].caption")
        return CaptionSource(self._table(split), fields)
