"""What the suite exports in any layout is, read as a data set, the same pixels and captions: the same fingerprint."""

from pathlib import Path

import pytest

from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS
from benchmark.export.writing import write_export
from tests.export.exports import ALL, make_poison, make_source, make_splits

SPECS = {
    "folder": "imagefolder[root=OUT]",
    "imagefolder": "imagefolder[root=OUT]",
    "webdataset": "webdataset[train=OUT/train-*.tar,val=OUT/val-{000000..000000}.tar,test=OUT/test-*.tar]",
    "csv": "csv[train=OUT/train.csv,val=OUT/val.csv,test=OUT/test.csv]",
    "coco": f"coco-captions[{','.join(f'{split}=OUT/annotations/captions_{split}.json' for split in ALL)}]",
    "token": "token[train=OUT/train.token,val=OUT/val.token,test=OUT/test.token]",
    "karpathy": "karpathy[json=OUT/dataset_export.json,images=OUT]",
}


@pytest.mark.parametrize("per_row", [False, True], ids=["per image", "per row"])
@pytest.mark.parametrize("layout", SPECS)
def test_the_fingerprint_comes_back(layout: str, per_row: bool, tmp_path: Path) -> None:
    clean = make_splits(nasty=True)
    source = make_source(clean, make_poison(clean.train, per_row))
    manifest = write_export(tmp_path / "out", layout, source, "")
    spec = parse_spec(SPECS[layout].replace("OUT", f"{tmp_path}/out"))
    splits = DATASETS.build(spec).load(16, tmp_path / "cache")
    assert {name: getattr(splits, name).fingerprint for name in ALL} == {
        name: manifest.splits[name].fingerprint for name in ALL
    }
