"""The OpenMoji drawings with their names: the real pairs of the packages, split by the seed."""

from pathlib import Path

import emoji
import numpy as np
import pytest

from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, openmoji
from benchmark.data.drawings import all_drawings, rasterise
from benchmark.data.openmoji import OpenMoji


def test_names_are_the_packages_own() -> None:
    drawings = all_drawings()
    assert len(drawings) > 3500
    assert len({drawing.path for drawing in drawings}) == len(drawings)
    for drawing in drawings[::100]:
        entry = emoji.EMOJI_DATA[drawing.emoji]
        written = [entry["en"], *entry.get("alias", [])]
        assert drawing.names[0] == written[0].strip(":").replace("_", " ").replace("’", "'")
        assert set(drawing.names) == {name.strip(":").replace("_", " ").replace("’", "'") for name in written}
    apple = next(drawing for drawing in drawings if drawing.emoji == "🍎")
    assert apple.names == ("red apple", "apple")
    assert Path(apple.path).name == "1F34E.svg"


def test_every_drawing_is_in_one_split_and_shares_are_kept() -> None:
    drawings = OpenMoji(val=0.1, test=0.2, seed=0).drawings()
    total = len(all_drawings())
    assert [len(drawings[split]) for split in ("val", "test")] == [round(0.1 * total), round(0.2 * total)]
    assert {drawing.emoji for part in drawings.values() for drawing in part} == {d.emoji for d in all_drawings()}
    assert sum(map(len, drawings.values())) == total


@pytest.mark.slow
def test_all_drawings_can_be_drawn(tmp_path: Path) -> None:
    splits = OpenMoji(seed=1).load(16, tmp_path)
    assert len(splits.train) + len(splits.val) + len(splits.test) == len(all_drawings())


def test_the_seed_decides_the_split() -> None:
    assert OpenMoji(seed=1).drawings() == OpenMoji(seed=1).drawings()
    assert OpenMoji(seed=1).drawings()["test"] != OpenMoji(seed=2).drawings()["test"]


@pytest.mark.parametrize("ground", [255, 128])
def test_pixels_are_the_drawing_on_its_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ground: int) -> None:
    monkeypatch.setattr(openmoji, "all_drawings", lambda: all_drawings()[1000:1010])
    OpenMoji(val=0.2, test=0.2, seed=0).load(48, tmp_path)  # on white, in the same cache
    source = OpenMoji(val=0.2, test=0.2, ground=ground, seed=0)
    splits = source.load(48, tmp_path)
    assert splits.train.images.shape == (6, 3, 48, 48)
    drawing = source.drawings()["train"][0]
    assert splits.train.captions[0] == list(drawing.names)
    pixels = rasterise(drawing, 48).transpose(2, 0, 1)
    image = splits.train.images[0]
    clear, solid = pixels[3] == 0, pixels[3] == 255
    assert (image[:, clear] == ground).all()
    assert clear.any()
    assert np.array_equal(image[:, solid], pixels[:3, solid])


@pytest.mark.parametrize("shares", [(0.0, 0.2), (0.1, 1.0), (0.5, 0.5), (-0.1, 0.2)])
def test_shares_out_of_range(shares: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=r"data set openmoji: (val and test|val|test) must be"):
        OpenMoji(*shares)


@pytest.mark.parametrize("ground", [-1, 256])
def test_a_ground_that_is_no_grey_level(ground: int) -> None:
    with pytest.raises(UsageError, match="data set openmoji: ground must be between 0 and 255"):
        OpenMoji(ground=ground)


def test_white_was_the_ground_before_there_was_a_choice() -> None:
    assert "ground" not in DATASETS.resolve(parse_spec("openmoji"))


def test_an_empty_split_is_told() -> None:
    with pytest.raises(UsageError, match="val would get none"):
        OpenMoji(val=1e-6, seed=0).drawings()
