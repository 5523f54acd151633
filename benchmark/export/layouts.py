"""File layouts for images and captions: writing and reading each of them."""

import csv
import io
import itertools
import json
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmark.export.images import read_inside, size_of_png
from benchmark.export.shards import read_shards, shard_names, write_shards


@dataclass(frozen=True)
class Sample:
    """An image as a PNG file and its captions in order, one line each."""

    png: bytes
    captions: list[str]


# Errors that reading untrusted files may raise.
UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    RecursionError,
    csv.Error,
    tarfile.TarError,
)

Samples = Mapping[str, Iterable[Sample]]
"""The samples of ``train`` and perhaps ``val`` and ``test``, in this order; iterables may compute them lazily."""


@dataclass(frozen=True)
class CaptionSource:
    """Where the captions of a split are, in Croissant's terms.

    Attributes:
        files: the file that holds them, or the pattern of those of single images.
        fields: what to extract for each field; the field ``captions`` is a list.
    """

    files: str
    fields: Mapping[str, Mapping[str, Any]]


class Layout(ABC):
    """A file layout. Images keep the order of the data set's rows.

    Attributes:
        hugging_face: pattern of the files from which ``datasets.load_dataset`` reads a split; ``{split}`` stands for
            the suite's name of it, ``{name}`` for Hugging Face's. ``None`` if it cannot read images or captions.
    """

    hugging_face: ClassVar[str | None] = None

    @abstractmethod
    def write(self, folder: Path, splits: Samples) -> None:
        """Write images and captions into an empty folder."""

    @abstractmethod
    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """Read the samples of a split. Nothing outside the folder is read.

        Raises:
            Exception: the files do not have this layout; see :data:`UNREADABLE`.
        """

    def open_clip_data(self, folder: Path, images: int) -> list[str]:
        """The flags by which open_clip's trainer, started in the folder, reads the training split.

        Args:
            folder: a folder with this layout.
            images: number of training images.

        Returns:
            The flags; none if open_clip does not read this layout.
        """
        return []

    def captions(self, split: str) -> CaptionSource | None:
        """Where the captions of a split are; ``None`` if Croissant has no words for it."""
        return None


def _image_name(number: int) -> str:
    return f"{number:08d}.png"


def _write_images(folder: Path, samples: Iterable[Sample]) -> Iterator[tuple[str, Sample]]:
    """Write the PNG files one by one and yield the name of each with its sample."""
    folder.mkdir()
    for number, sample in enumerate(samples):
        (folder / _image_name(number)).write_bytes(sample.png)
        yield _image_name(number), sample


def _lines(content: bytes) -> list[str]:
    return content.decode().removesuffix("\n").split("\n")


def _strings(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(caption, str) for caption in value):
        raise ValueError("captions are not a list of strings")
    for caption in value:
        caption.encode()  # raises for single surrogates, which JSON can spell
    return value


def _extract(**what: str) -> dict[str, Any]:
    return {"extract": what}


def _texts_beside(split: str) -> CaptionSource:
    fields = {"file": _extract(fileProperty="filename"), "text": _extract(fileProperty="content")}
    return CaptionSource(f"{split}/*.txt", fields)


class Folder(Layout):
    """``train/00000000.png`` and beside it ``train/00000000.txt`` with one caption per line."""

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            for name, sample in _write_images(folder / split, samples):
                text = "".join(f"{caption}\n" for caption in sample.captions)
                (folder / split / name).with_suffix(".txt").write_bytes(text.encode())

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        for path in sorted((folder / split).glob("*.png")):
            captions = _lines(read_inside(folder, f"{split}/{path.stem}.txt"))
            yield Sample(read_inside(folder, f"{split}/{path.name}"), captions)

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        return _texts_beside(split)


class Csv(Layout):
    """``train.csv`` with a row ``filepath,title`` for each caption, images in ``train/``."""

    hugging_face = "{split}.csv"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(("filepath", "title"))
                for name, sample in _write_images(folder / split, samples):
                    table.writerows((f"{split}/{name}", caption) for caption in sample.captions)

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        text = io.StringIO(read_inside(folder, f"{split}.csv").decode(), newline="")
        rows = csv.DictReader(text, strict=True)
        for path, image_rows in itertools.groupby(rows, lambda row: row["filepath"]):
            yield Sample(read_inside(folder, path), _strings([row["title"] for row in image_rows]))

    def open_clip_data(self, folder: Path, images: int) -> list[str]:
        """See :meth:`Layout.open_clip_data`."""
        return ["--train-data", "train.csv", "--csv-separator", ","]

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        columns = {"image": "filepath", "caption": "title"}
        return CaptionSource(f"{split}.csv", {name: _extract(column=column) for name, column in columns.items()})


class Karpathy(Layout):
    """``dataset_export.json`` in Karpathy's format for all splits, images in ``train/``, ``val/``, ``test/``."""

    _TABLE = "dataset_export.json"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        images: list[dict[str, Any]] = []
        sentences = itertools.count()
        for split, samples in splits.items():
            for name, sample in _write_images(folder / split, samples):
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
                yield Sample(png, _strings([sentence["raw"] for sentence in row["sentences"]]))

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        paths = {"split": "images[*].split", "image": "images[*].filename", "captions": "images[*].sentences"}
        fields = {name: _extract(jsonPath=path) for name, path in paths.items()}
        return CaptionSource(
            self._TABLE, {**fields, "captions": fields["captions"] | {"transform": {"jsonPath": "raw"}}}
        )


class Coco(Layout):
    """``annotations/captions_train.json`` in COCO's format, images in ``train/``; an image's id is its number."""

    @staticmethod
    def _table(split: str) -> str:
        return f"annotations/captions_{split}.json"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        (folder / "annotations").mkdir()
        for split, samples in splits.items():
            images: list[dict[str, Any]] = []
            annotations: list[dict[str, Any]] = []
            for name, sample in _write_images(folder / split, samples):
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
            yield Sample(read_inside(folder, f"{split}/{row['file_name']}"), _strings(captions[row["id"]]))

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        paths = {"image": "annotations[*].image_id", "caption": "annotations[*].caption"}
        return CaptionSource(self._table(split), {name: _extract(jsonPath=path) for name, path in paths.items()})


class Token(Layout):
    """``train.token`` with a line ``train/00000000.png#0``, a tab, a caption for each caption, images in ``train/``."""

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            with (folder / f"{split}.token").open("w", encoding="utf-8", newline="") as file:
                for name, sample in _write_images(folder / split, samples):
                    # torchvision drops the last two characters, so the number has one digit.
                    file.writelines(
                        f"{split}/{name}#{number % 10}\t{caption}\n" for number, caption in enumerate(sample.captions)
                    )

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        rows = [line.split("\t") for line in _lines(read_inside(folder, f"{split}.token"))]
        for path, image_rows in itertools.groupby(rows, lambda row: row[0].rpartition("#")[0]):
            yield Sample(read_inside(folder, path), [caption for _, caption in image_rows])


class ImageFolder(Layout):
    """``train/00000000.png`` and ``train/metadata.jsonl``, as Hugging Face's ``imagefolder`` reads them."""

    hugging_face = "{name}/*"
    _FOLDER: ClassVar = {"train": "train", "val": "validation", "test": "test"}
    _TABLE = "metadata.jsonl"

    def write(self, folder: Path, splits: Samples) -> None:
        """See :meth:`Layout.write`."""
        for split, samples in splits.items():
            inner = folder / self._FOLDER[split]
            rows = [{"file_name": name, "captions": s.captions} for name, s in _write_images(inner, samples)]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (inner / self._TABLE).write_bytes(text.encode())

    def read(self, folder: Path, split: str) -> Iterator[Sample]:
        """See :meth:`Layout.read`."""
        inner = self._FOLDER[split]
        for line in _lines(read_inside(folder, f"{inner}/{self._TABLE}")):
            row = json.loads(line)
            yield Sample(read_inside(folder, f"{inner}/{row['file_name']}"), _strings(row["captions"]))

    def captions(self, split: str) -> CaptionSource:
        """See :meth:`Layout.captions`."""
        columns = {"image": "file_name", "captions": "captions"}
        fields = {name: _extract(column=column) for name, column in columns.items()}
        return CaptionSource(f"{self._FOLDER[split]}/{self._TABLE}", fields)


class WebDataset(Layout):
    """``train-000000.tar`` …, a thousand samples each, as members ``00000000.png``, ``.txt`` and ``.json``.

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
            captions = _strings(json.loads(files["json"])["captions"])
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
        return _texts_beside(split)


LAYOUTS: dict[str, Layout] = {
    "folder": Folder(),
    "csv": Csv(),
    "karpathy": Karpathy(),
    "coco": Coco(),
    "token": Token(),
    "webdataset": WebDataset(),
    "imagefolder": ImageFolder(),
}
