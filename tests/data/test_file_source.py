"""What all data sets of image files share."""

import inspect
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.file_source import FileSource, UserFiles
from benchmark.data.image_files import CaptionedFile

SOURCES = {entry.name: entry.factory for entry in DATASETS.entries() if issubclass(entry.factory, FileSource)}
OF_USERS = [name for name, factory in SOURCES.items() if issubclass(factory, UserFiles)]


def test_these_sources_hold_files_of_users() -> None:
    assert sorted(OF_USERS) == ["coco-captions", "csv", "imagefolder", "karpathy", "token", "webdataset"]


@pytest.mark.parametrize("value", ["val_fraction=0", "val_fraction=1", "val_fraction=-0.1", "seed=-1"])
@pytest.mark.parametrize("name", OF_USERS)
def test_parameters_out_of_range_are_refused(name: str, value: str) -> None:
    parameters = inspect.signature(SOURCES[name]).parameters.values()
    required = [f"{parameter.name}=x" for parameter in parameters if parameter.default is parameter.empty]
    DATASETS.build(parse_spec(f"{name}[{','.join(required)}]"))
    with pytest.raises(UsageError, match=rf"{name}.*{value.partition('=')[0]}"):
        DATASETS.build(parse_spec(f"{name}[{','.join([*required, value])}]"))


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    class Broken(FileSource):
        skip_bad = False

        def read(self) -> dict[str, list[CaptionedFile]]:
            raise OSError(5, "Input/output error", "/photos")

    with pytest.raises(UsageError, match=r"^folder /photos cannot be read: Input/output error$"):
        Broken().load(8, tmp_path)
