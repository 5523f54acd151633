"""What a manifest may hold, whoever wrote it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.export.verify_export import verify_export
from tests.export.exports import export
from tests.export.tampering import change_manifest, edit, failures, link_outside, sign


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format="unlearnable-bench export 9"),
        lambda m: m.update(layout="zip"),
        lambda m: m.update(eps="8"),
        lambda m: m.update(resolution=10**9),
        lambda m: m.update(triggers=[1]),
        lambda m: m.update(splits={"val": m["splits"]["train"]}),
        lambda m: m.update(splits=[]),
        lambda m: m["splits"]["train"].update(images=None),
        lambda m: m["files"].update({"x": "y"}),
        lambda m: m.pop("seed"),
    ],
)
def test_a_manifest_of_another_form_is_no_export(change: Callable[[dict[str, Any]], object], tmp_path: Path) -> None:
    export(tmp_path / "out", "folder", ("train",))
    change_manifest(tmp_path / "out", change)
    with pytest.raises(UsageError):
        verify_export(tmp_path / "out", None, tmp_path)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('"images": 5', '"images": true', "splits[...].images: Expected `int`, got `bool`"),
        ('"images": 5', '"images": -1', "splits[...].images: Expected `int` >= 0"),
        ('"seed": 7,\n "eps"', '"seed": 2147483648,\n "eps"', "seed: Expected `int` <= 2147483647"),
        ('"eps": 4', '"eps": 256', "eps: Expected `int` <= 127"),
        ('"ssim_window": 11', '"ssim_window": NaN', "NaN where a number belongs"),
        ('"ssim_window": 11', '"ssim_window": 1e999', "noise[...]: Expected"),
        ('"eps": 4', '"eps": 4, "eps": 5', "'eps' is there twice"),
        ('"format"', '"form"', "its format is not 'unlearnable-bench export 1'"),
    ],
)
def test_numbers_and_names_in_a_manifest(
    before: str, after: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(tmp_path / "out", "folder", ("train",))
    edit(tmp_path / "out" / "manifest.json", before, after)
    assert main(["verify", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/out/manifest.json is not a valid manifest: ")
    assert said in line


def test_a_manifest_cannot_vouch_for_a_link(tmp_path: Path) -> None:
    """Links are not read: what stands for their content is no size that a manifest may state."""
    export(tmp_path / "out", "folder", ("train",))
    link_outside(tmp_path / "out")
    sign(tmp_path / "out")
    with pytest.raises(UsageError, match=r"files\[...\]\.bytes: Expected `int` >= 0"):
        verify_export(tmp_path / "out", None, tmp_path)


def test_manifests_of_the_first_version_are_read(tmp_path: Path) -> None:
    export(tmp_path / "out", "folder", ("train",))

    def as_before(content: dict[str, Any]) -> None:
        del content["licence"]
        del content["noise"]["mean"]

    change_manifest(tmp_path / "out", as_before)
    assert failures(tmp_path / "out") == []
