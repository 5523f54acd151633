"""Flickr's ``.token`` files: captions of an image together, and one clear line for what is wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.data.token_file import TokenFile


def test_flickr30k_as_its_authors_publish_it(tmp_path: Path, make_images: Callable[..., None]) -> None:
    make_images(*(f"img/{number}.jpg" for number in range(10)))
    rows = [f"{number}.jpg#{place}\t{words}" for number in range(10) for place, words in enumerate(("a dog .", "# 2"))]
    (tmp_path / "results.token").write_text("\n".join(rows) + "\n")
    spec = f"token[train={tmp_path}/results.token,images={tmp_path}/img]"
    splits = DATASETS.build(parse_spec(spec)).load(8, tmp_path / "cache")
    assert (len(splits.train), len(splits.val), len(splits.test)) == (8, 1, 1)
    assert splits.train.captions == [["a dog .", "# 2"]] * 8


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no captions"),
        ("\n\n", "has no captions"),
        ("a.jpg#0\tx\na.jpg#1 y\n", "line 2: not 'FILE#NUMBER', a tab and a caption"),
        ("a.jpg\tx\n", "line 1: not 'FILE#NUMBER'"),
        ("../a.jpg#0\tx\n", "leads out of the image folder"),
        ("#0\tx\n", "a row without a file name"),
    ],
)
def test_a_bad_file_is_named_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.token").write_text(text)
    with pytest.raises(UsageError, match=rf"caption file .*a\.token.*{said}") as error:
        TokenFile(str(tmp_path / "a.token")).read()
    assert "\n" not in str(error.value)
