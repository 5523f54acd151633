"""Captioned photos as people have them: a folder with a table, or with a text file beside each photo; or a data set."""

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.core.atomic_files import UNFINISHED
from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, DatasetSource, Splits
from benchmark.data.caption_files import read_text
from benchmark.data.csv_table import read_table
from benchmark.data.file_source import FileSource
from benchmark.data.image_files import CaptionedFile, captioned_file, load_files
from benchmark.data.image_location import ImageLocation
from benchmark.data.imagefolder import IMAGES, from_metadata, from_texts, images_below

TABLES = tuple(f"{stem}.{suffix}" for stem in ("captions", "metadata") for suffix in ("csv", "tsv", "txt", "jsonl"))
_OTHERS = frozenset({".jfif", ".jpe", ".pjpeg", ".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".dib", ".apng"})
_FOREIGN = frozenset(
    ".heic .heif .hif .avif .jxl .jp2 .j2k .psd .tga .insp .dng .gpr .cr2 .cr3 .crw .nef .nrw .arw .sr2 .orf .rw2 .rwl "
    ".raf .pef .srw .x3f .3fr .iiq".split()
)


@dataclass(frozen=True)
class Photos(DatasetSource):
    """Photos with captions, before they are read. All are training images, none is set aside.

    Attributes:
        name: as they were named.
        files: photos with captions, and those that have none or cannot be used, each once.
        root: absolute path of the folder that the names of the photos start from.
        skip_bad: leave out photos that are missing, cannot be read or have no caption, and list them.
    """

    name: str
    files: list[CaptionedFile]
    root: Path
    skip_bad: bool = False

    def load(self, resolution: int, cache: Path) -> Splits:
        """All photos as a model sees them, in train; see :func:`benchmark.data.image_files.load_files`."""
        files = {"train": self.files, "val": [], "test": []}
        return load_files(cache, self.name, "photos", files, resolution, self.skip_bad)

    def relative(self, origin: ImageLocation) -> str:
        """The name of a photo from :attr:`root`, with forward slashes.

        Raises:
            UsageError: it lies elsewhere.
        """
        path = origin if isinstance(origin, Path) else origin.archive.parent / origin.name
        relative = Path(os.path.relpath(path, self.root))
        if ".." in relative.parts:
            raise UsageError(f"photo {origin} is not inside {self.root}")
        return relative.as_posix()

    def name_of(self, origin: ImageLocation) -> str:
        """The name from :meth:`relative`; for a photo outside :attr:`root`, which has no such name, its path."""
        try:
            return self.relative(origin)
        except UsageError:
            return str(origin)


def find_photos(text: str, copies: Path, skip_bad: bool = False) -> Photos:
    """The photos of a folder, of a table, or of all splits of a data set of image files.

    Args:
        text: path of a folder or of a caption table, or a data set's spec, e.g. ``csv[train=a.csv]``.
        copies: folder of protected copies; it may lie among the photos, and none of these is taken from it.
        skip_bad: see :class:`Photos`.

    Raises:
        UsageError: there are no photos, the captions cannot be read, or the data set has no image files.
    """
    path = user_path(text)
    is_spec = "[" in text and not os.path.exists(path)  # noqa: PTH110 - a list of many shards is too long for a path
    try:
        if not is_spec and path.is_dir():
            return Photos(text, _of_folder(path, copies), path.absolute(), skip_bad)
        if not is_spec and path.is_file():
            return Photos(text, _of_table(path, []), path.absolute().parent, skip_bad)
        if not is_spec:
            raise UsageError(f"{text} is neither a folder of photos nor a table of captions, nor a data set with [...]")
        source = DATASETS.build(parse_spec(text))
        if not isinstance(source, FileSource):
            raise UsageError(f"data set {text} has no photo files")
        files = _once([file for split in source.read().values() for file in split])
        skip_bad = skip_bad or source.skip_bad
    except OSError as error:
        raise UsageError(f"folder {error.filename} cannot be read: {error.strerror or error}") from error
    folders = [file.image.parent if isinstance(file.image, Path) else file.image.archive.parent for file in files]
    return Photos(text, files, Path(os.path.commonpath([_place(folder) for folder in folders])), skip_bad)


def _of_folder(folder: Path, copies: Path) -> list[CaptionedFile]:
    tables = [folder / name for name in TABLES if (folder / name).is_file()]
    images = _originals(images_below(folder, IMAGES | _OTHERS | _FOREIGN), copies)
    own_texts = {path.with_suffix(".txt") for path in images}  # the text of a photo called captions.jpg is no table
    tables = [path for path in tables if path not in own_texts]
    if len(tables) > 1:
        raise UsageError(f"folder {folder} has several tables of captions: {', '.join(path.name for path in tables)}")
    files = _of_table(tables[0], images) if tables else from_texts(folder, images)
    if not files:
        raise UsageError(f"folder {folder} holds no photos")
    return [_with_fault_if_foreign(file) for file in files]


def _with_fault_if_foreign(file: CaptionedFile) -> CaptionedFile:
    """A photo, with a fault if its format cannot be read here.

    If it were passed over in silence, whoever trusts the folder would publish it without noise.
    """
    if not (isinstance(file.image, Path) and file.image.suffix.lower() in _FOREIGN):
        return file
    said = f"image {file.image} is in a format that cannot be read here; save it as JPEG or PNG"
    return CaptionedFile(file.image, [], said)


def _originals(images: list[Path], copies: Path) -> list[Path]:
    """The images that lie neither in the folder of copies nor in an unfinished folder that a killed run has left."""
    own = copies.resolve()
    return [
        path
        for path in images
        if not any(
            parent == own or (parent.parent == own.parent and parent.name.startswith(f"{own.name}{UNFINISHED}"))
            for parent in path.parent.resolve().joinpath(path.name).parents
        )
    ]


def _of_table(table: Path, images: list[Path]) -> list[CaptionedFile]:
    """The photos of a table, then those of ``images`` that it does not name, which have no caption."""
    columns = {name.strip('" \r\ufeff') for name in re.split(r"[,;\t|]", read_text(table).partition("\n")[0])}
    if table.suffix == ".jsonl" or "file_name" in columns:
        return from_metadata(table, images)
    files = _once(read_table(table))
    named = {_place(file.image) for file in files}
    return files + [captioned_file(path, [], table) for path in images if _place(path) not in named]


def _once(files: list[CaptionedFile]) -> list[CaptionedFile]:
    """Each photo once, with the captions of all its mentions; of later ones, those that are new."""
    by_place: dict[str, CaptionedFile] = {}
    for file in files:
        place = _place(file.image)
        if known := by_place.get(place):
            new = [caption for caption in file.captions if caption not in known.captions]
            file = replace(known, captions=known.captions + new, fault=known.fault and file.fault)
        by_place[place] = file
    return list(by_place.values())


def _place(image: ImageLocation) -> str:
    """What tells a photo from others, however its path is written."""
    return os.path.normpath(Path(str(image)).absolute())
