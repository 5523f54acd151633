"""Numbers in a manifest that are none, or larger than any export's."""

import json
from pathlib import Path

import pytest

from benchmark.core.errors import UsageError
from benchmark.export.verify_export import verify_export
from tests.export.exports import export


@pytest.mark.parametrize("number", [-1, True, 2**32 - 1, 10**40, 1e300])
@pytest.mark.parametrize("place", ["images", "captions", "seed", "resolution"])
def test_a_number_out_of_range_makes_no_manifest(place: str, number: object, tmp_path: Path) -> None:
    export(tmp_path / "out", "folder")
    path = tmp_path / "out" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    (manifest["splits"]["train"] if place in ("images", "captions") else manifest)[place] = number
    path.write_text(json.dumps(manifest), "utf-8")
    with pytest.raises(UsageError, match="is not a valid manifest: "):
        verify_export(tmp_path / "out", None, tmp_path)
