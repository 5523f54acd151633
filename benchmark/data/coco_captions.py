"""A user's own images with captions in COCO's JSON, as pycocotools and torchvision's ``CocoCaptions`` read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.errors import UsageError
from benchmark.data import DATASETS
from benchmark.data.caption_files import captions_in, inside, read_json
from benchmark.data.file_source import FilePerSplit
from benchmark.data.image_files import CaptionedFile, captioned_file


@DATASETS.register("coco-captions", order=27)
@dataclass(frozen=True)
class CocoCaptions(FilePerSplit):
    """Images of your own, with captions in COCO's ``captions_*.json``, one file for each split.

    Parameters are those of :class:`benchmark.data.file_source.FilePerSplit`. Without ``images``, images are looked for
    where COCO puts them: for ``annotations/captions_NAME.json``, in ``NAME`` beside ``annotations``; for any other
    file, in that file's own folder.
    """

    def read_file(self, source: Path, images: Path | None) -> list[CaptionedFile]:
        """The images of a JSON in its order; see :func:`read_coco`."""
        return read_coco(source, _place(source) if images is None else images)


def _place(source: Path) -> Path:
    name = source.stem.removeprefix("captions_")
    return source.parent.parent / name if source.parent.name == "annotations" and name != source.stem else source.parent


def read_coco(source: Path, images: Path) -> list[CaptionedFile]:
    """The images of a COCO caption file, in its order, each with its captions in theirs; rows of one file are merged.

    Raises:
        UsageError: the file is missing, cannot be read, is not in COCO's format, names an image outside the folder, has
            two images of one id, or has a caption of no image.
    """
    content = read_json(source)
    rows = content if isinstance(content, dict) else {}
    if bad := next((kind for kind in ("images", "annotations") if not isinstance(rows.get(kind), list)), None):
        raise UsageError(f"caption file {source} has no list '{bad}', so it is not in COCO's format")
    paths: dict[Any, Path] = {}
    captions: dict[Any, list[str]] = {}

    def add_image(row: dict[str, Any]) -> None:
        if row["id"] in paths:
            raise UsageError(f"caption file {source} has two images of id {row['id']!r}")
        paths[row["id"]] = inside(images, row["file_name"], source)
        captions[row["id"]] = []

    def add_caption(row: dict[str, Any]) -> None:
        if row["image_id"] not in captions:
            raise UsageError(f"caption file {source} has a caption of an unknown image, id {row['image_id']!r}")
        captions[row["image_id"]] += captions_in(row)

    for kind, add in (("images", add_image), ("annotations", add_caption)):
        for number, row in enumerate(rows[kind]):
            try:
                add(row)
            except (KeyError, TypeError, AttributeError) as error:
                raise UsageError(
                    f"caption file {source}: {kind}[{number}] is not in COCO's format ({error!r})"
                ) from error
    if not paths:
        raise UsageError(f"caption file {source} has no images")
    of_files: dict[Path, list[str]] = {}
    for id_, path in paths.items():
        of_files.setdefault(path, []).extend(captions[id_])
    return [captioned_file(path, texts, source) for path, texts in of_files.items()]
