"""A user's own images with captions in a ``.token`` file, as Flickr8k and Flickr30k come from their authors."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.core.errors import UsageError
from benchmark.data import DATASETS
from benchmark.data.caption_files import inside, read_text
from benchmark.data.file_source import FilePerSplit
from benchmark.data.image_files import CaptionedFile, captioned_file


@DATASETS.register("token", order=28)
@dataclass(frozen=True)
class TokenFile(FilePerSplit):
    """Images of your own, with captions in ``.token`` files as of Flickr30k: lines ``a.jpg#0``, a tab, a caption.

    Parameters are those of :class:`benchmark.data.file_source.FilePerSplit`. Without ``images``, file names start at
    the file's own folder.
    """

    def read_file(self, source: Path, images: Path | None) -> list[CaptionedFile]:
        """The images of a file in order of first mention, each with its captions in theirs."""
        captions: dict[str, list[str]] = {}
        for number, line in enumerate(read_text(source).split("\n"), 1):
            key, tab, caption = line.partition("\t")
            name, mark, _ = key.rpartition("#")
            if line.strip():
                if not (tab and mark):
                    raise UsageError(f"caption file {source}, line {number}: not 'FILE#NUMBER', a tab and a caption")
                captions.setdefault(name, []).append(caption)
        if not captions:
            raise UsageError(f"caption file {source} has no captions")
        folder = source.parent if images is None else images
        return [captioned_file(inside(folder, name, source), texts, source) for name, texts in captions.items()]
