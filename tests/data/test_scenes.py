"""Scenes: what is painted is what the captions say, the same everywhere, and test pairs are new."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmark.core.errors import UsageError
from benchmark.core.seeding import numpy_generator
from benchmark.data import CaptionDataset, Splits
from benchmark.data.drawings import rasterise
from benchmark.data.scene_layout import GROUNDS, PAIR_CLASSES, SPLIT_CLASSES, Layout, Placed
from benchmark.data.scene_painter import Painter
from benchmark.data.scene_words import nameable_drawings, with_article
from benchmark.data.scenes import Scenes


@pytest.fixture(scope="module")
def source() -> Scenes:
    return Scenes(train=120, val=30, test=40, objects=60, seed=3)


@pytest.fixture(scope="module")
def splits(source: Scenes, tmp_path_factory: pytest.TempPathFactory) -> Splits:
    return source.load(64, tmp_path_factory.mktemp("cache"))


def names_in(source: Scenes, layout: Layout) -> list[str]:
    drawings = source.drawings()
    return [drawings[placed.drawing].names[0] for placed in layout.objects]


def mentions(caption: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", caption) is not None


def test_shapes_and_names(splits: Splits) -> None:
    assert splits.train.images.shape == (120, 3, 64, 64)
    assert [len(splits.val), len(splits.test)] == [30, 40]
    assert splits.train.name == "scenes[train=120,val=30,test=40,objects=60,seed=3]"
    assert [splits.train.split, splits.val.split, splits.test.split] == ["train", "val", "test"]


def test_five_differing_captions_of_5_to_14_words(splits: Splits) -> None:
    for captions in (*splits.train.captions, *splits.val.captions, *splits.test.captions):
        assert len(captions) == len(set(captions)) == 5
        assert all(5 <= len(caption.split()) <= 14 for caption in captions), captions


def test_captions_name_the_objects_and_mostly_the_ground(source: Scenes, splits: Splits) -> None:
    grounds = 0
    for layout, captions in zip(source.layouts("train"), splits.train.captions, strict=True):
        names = names_in(source, layout)
        assert sum(all(mentions(caption, name) for name in names) for caption in captions) >= 4
        grounds += sum(mentions(caption, layout.ground) for caption in captions)
    assert grounds >= 0.75 * 5 * len(splits.train)


def test_captions_tell_the_true_relation(source: Scenes, splits: Splits) -> None:
    relations = 0
    words = r"left of|right of|above|over|below|under"
    for layout, captions in zip(source.layouts("train"), splits.train.captions, strict=True):
        if len(layout.objects) == 1:
            assert not any(re.search(rf" ({words}|next to|beside|near) ", caption) for caption in captions)
            continue
        first, second = zip(names_in(source, layout), layout.objects, strict=True)
        for caption in captions:
            for (name, it), (other, that) in ((first, second), (second, first)):
                pattern = rf"{re.escape(name)} (?:to the )?({words}) (?:an? )?{re.escape(other)}"
                if phrase := re.search(pattern, caption):
                    x, y = that.x - it.x, that.y - it.y
                    distance = {"left of": x, "right of": -x, "above": y, "over": y, "below": -y, "under": -y}
                    assert distance[phrase[1]] > 0, (caption, layout)
                    assert distance[phrase[1]] == max(abs(x), abs(y))
                    relations += 1
    assert relations > 50


def test_objects_are_where_the_layout_says(source: Scenes) -> None:
    """Against a scene painted with everything but its objects: the changed pixels lie around the objects' centres."""
    painter = Painter(source.drawings(), 64)
    for index, layout in enumerate(source.layouts("test")[:20]):
        with_objects = painter.paint(layout, numpy_generator(0, "t", index)).astype(int)
        without = painter.paint(Layout(layout.ground, ()), numpy_generator(0, "t", index)).astype(int)
        y, x = np.nonzero(np.abs(with_objects - without).max(0) > 24)
        far = [np.hypot((x + 0.5) / 64 - it.x, (y + 0.5) / 64 - it.y) / it.size for it in layout.objects]
        assert np.min(far, axis=0).max() < 0.75
        assert all((distance < 0.5).sum() > 20 for distance in far)


def test_two_objects_barely_overlap(source: Scenes) -> None:
    painter = Painter(source.drawings(), 64)

    def ink(layout: Layout) -> int:
        bare = painter.paint(Layout(layout.ground, ()), numpy_generator(0)).astype(int)
        return int((np.abs(painter.paint(layout, numpy_generator(0)).astype(int) - bare).max(0) > 24).sum())

    for layout in source.layouts("train")[:40]:
        apart = sum(ink(Layout(layout.ground, (it,))) for it in layout.objects)
        assert ink(layout) > 0.85 * apart


def test_about_one_scene_in_five_shows_a_single_object() -> None:
    layouts = Scenes(train=1000, objects=60, seed=0).layouts("train")
    assert 0.15 < np.mean([len(layout.objects) == 1 for layout in layouts]) < 0.25


@pytest.mark.parametrize(("grounds", "names"), [(1, {"grey"}), (2, {"blue", "grey"}), (5, set(GROUNDS))])
def test_grounds_is_the_number_of_colours_that_scenes_show_and_captions_name(
    grounds: int, names: set[str], tmp_path: Path
) -> None:
    source = Scenes(train=60, val=1, test=1, objects=60, grounds=grounds, seed=3)
    train = source.load(16, tmp_path).train
    layouts = source.layouts("train")
    assert {layout.ground for layout in layouts} == names
    for layout, captions in zip(layouts, train.captions, strict=True):
        assert any(mentions(caption, layout.ground) for caption in captions)
    # The mean colour of an image is nearest to that of its ground.
    means = train.images[:].mean(axis=(2, 3))
    colours = np.array(list(GROUNDS.values()))
    nearest = np.abs(means[:, None] - colours).sum(-1).argmin(1)
    hits = [list(GROUNDS)[index] == layout.ground for index, layout in zip(nearest, layouts, strict=True)]
    assert np.mean(hits) > 0.8


def test_the_ground_is_grey_by_default(source: Scenes) -> None:
    assert {layout.ground for split in ("train", "val", "test") for layout in source.layouts(split)} == {"grey"}


def test_val_and_test_pairs_are_never_seen_in_training() -> None:
    source = Scenes(train=2000, val=500, test=500, objects=60, seed=0)
    pairs = {
        split: {frozenset(it.drawing for it in layout.objects) for layout in source.layouts(split)}
        for split in ("train", "val", "test")
    }
    pairs = {split: {pair for pair in sets if len(pair) == 2} for split, sets in pairs.items()}
    assert len(pairs["train"]) > 500
    assert pairs["train"].isdisjoint(pairs["val"] | pairs["test"])
    assert pairs["val"].isdisjoint(pairs["test"])
    everywhere = {drawing for pair in pairs["train"] for drawing in pair}
    assert {drawing for pair in pairs["test"] for drawing in pair} <= everywhere


def test_every_split_has_its_own_classes_of_pairs() -> None:
    assert sorted(c for classes in SPLIT_CLASSES.values() for c in classes) == list(range(PAIR_CLASSES))
    source = Scenes(train=300, val=100, test=100, objects=60, seed=0)
    for split, classes in SPLIT_CLASSES.items():
        pairs = [[it.drawing for it in layout.objects] for layout in source.layouts(split) if len(layout.objects) == 2]
        assert {sum(pair) % PAIR_CLASSES for pair in pairs} == set(classes)


def test_a_scene_does_not_depend_on_how_many_there_are(splits: Splits, tmp_path: Path) -> None:
    fewer = Scenes(train=5, val=2, test=3, objects=60, seed=3).load(64, tmp_path)
    for few, many in ((fewer.train, splits.train), (fewer.val, splits.val), (fewer.test, splits.test)):
        assert np.array_equal(few.images[:], many.images[: len(few)])
        assert few.captions == many.captions[: len(few)]


def test_the_same_in_another_process(splits: Splits, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmark.data.scenes import Scenes;"
        "s = Scenes(train=120, val=30, test=40, objects=60, seed=3).load(64, Path(sys.argv[1]));"
        "print(s.train.fingerprint, s.test.fingerprint)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert run.stdout.split() == [splits.train.fingerprint, splits.test.fingerprint]
    assert not run.stderr


def test_seed_and_split_change_the_scenes(splits: Splits, tmp_path: Path) -> None:
    other = Scenes(train=30, val=30, test=30, objects=60, seed=4).load(64, tmp_path)
    for left, right in ((other.train, splits.train), (splits.train, splits.test), (splits.val, splits.test)):
        assert left.captions[:30] != right.captions[:30]
        assert not (np.asarray(left.images[:30]) == right.images[:30]).all(axis=(1, 2, 3)).any()
        # Most corners show the ground, so its texture differs, too.
        assert (left.images[:30][:, :, 0, 0] == right.images[:30][:, :, 0, 0]).all(axis=1).mean() < 0.2


def test_64_and_224_pixels_look_alike(splits: Splits, tmp_path: Path) -> None:
    large = Scenes(train=12, val=1, test=1, objects=60, seed=3).load(224, tmp_path).train
    assert large.resolution == 224
    assert large.captions == splits.train.captions[:12]

    def correlation(small: CaptionDataset, index: int, against: int) -> float:
        image = Image.fromarray(large.images[index].transpose(1, 2, 0)).resize((64, 64), Image.Resampling.BOX)
        pair = np.asarray(image).transpose(2, 0, 1).ravel(), np.asarray(small.images[against]).ravel()
        return float(np.corrcoef(*pair)[0, 1])

    alike = [correlation(splits.train, index, index) for index in range(12)]
    different = [correlation(splits.train, index, (index + 1) % 12) for index in range(12)]
    assert min(alike) > 0.95
    assert np.mean(different) < 0.8


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("train", 0),
        ("val", 0),
        ("test", -1),
        ("objects", 5),
        ("objects", 100_000),
        ("grounds", 0),
        ("grounds", 6),
        ("seed", -1),
    ],
)
def test_parameters_out_of_range(parameter: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"^data set scenes: {parameter} must be .*, got {value}$"):
        Scenes(**{parameter: value})


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("fox", "a fox"),
        ("red apple", "a red apple"),
        ("owl", "an owl"),
        ("unicorn", "a unicorn"),
        ("euro banknote", "a euro banknote"),
        ("x-ray", "an x-ray"),
        ("one-piece swimsuit", "a one-piece swimsuit"),
        ("umbrella", "an umbrella"),
        ("grapes", "grapes"),
        ("bread", "bread"),
        ("wine glass", "a wine glass"),
        ("octopus", "an octopus"),
        ("scissors", "scissors"),
        ("rhinoceros", "a rhinoceros"),
    ],
)
def test_articles(name: str, phrase: str) -> None:
    assert with_article(name) == phrase


def test_no_two_drawings_share_a_name_and_the_default_has_enough() -> None:
    names = [drawing.names[0] for drawing in nameable_drawings()]
    assert len(names) == len(set(names)) >= 650
    assert {"red apple", "fox", "cat"} <= set(names)
    assert not [name for name in names if "skin tone" in name or "flag:" in name or "face" in name]


@pytest.mark.parametrize("mirrored", [False, True])
def test_drawings_are_mirrored_and_turned_clockwise(source: Scenes, mirrored: bool) -> None:
    """Against Pillow's own turns, which sample the drawings otherwise: alike are 0.90 to 0.97 of 1."""
    drawings, grey = source.drawings()[:8], (160, 160, 160, 255)
    painter = Painter(drawings, 64)
    for number, drawing in enumerate(drawings):
        own = Image.fromarray(rasterise(drawing, 64)).resize((52, 52), Image.Resampling.BICUBIC)
        expected = Image.new("RGBA", (64, 64), grey)
        expected.alpha_composite(own.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else own, (6, 6))
        # Pillow turns anticlockwise.
        turned = np.asarray(expected.rotate(-20, Image.Resampling.BICUBIC, fillcolor=grey).convert("RGB"))
        layout = Layout("grey", (Placed(number, 0.5, 0.5, 52 / 64, 20.0, mirrored),))
        painted = painter.paint(layout, numpy_generator(0)).transpose(1, 2, 0)
        assert np.corrcoef(painted.ravel(), turned.ravel())[0, 1] > 0.88


def test_another_version_is_painted_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, painters = Scenes(train=2, val=1, test=1, objects=30, seed=3), list[Painter]()

    def painter(*given: Any) -> Painter:
        painters.append(Painter(*given))
        return painters[-1]

    monkeypatch.setattr("benchmark.data.scenes.Painter", painter)
    now = Scenes.version
    for version, count in ((now, 1), (now, 1), (now + 1, 2)):
        monkeypatch.setattr(Scenes, "version", version)
        few.load(16, tmp_path)
        assert len(painters) == count


def test_all_drawings_stand_first_turned_and_mirrored_alike_and_the_seed_chooses_them() -> None:
    source = Scenes(train=1500, objects=60, seed=3)
    placed = [layout.objects[0] for layout in source.layouts("train")]
    assert np.bincount([each.drawing for each in placed], minlength=60).min() > 5  # of 25
    turns, mirrored = np.array([each.rotation for each in placed]), np.mean([each.mirrored for each in placed])
    assert np.histogram(turns, bins=4, range=(-20, 20))[0] / 1500 == pytest.approx([0.25] * 4, abs=0.05)
    assert mirrored == pytest.approx(0.5, abs=0.06)
    others = [{one.path for one in Scenes(objects=60, seed=seed).drawings()} for seed in (3, 3, 4)]
    assert others[0] == others[1] != others[2]


def test_every_scene_has_a_texture_of_its_own(splits: Splits) -> None:
    """Most corners show the ground."""
    assert len(np.unique(splits.train.images[:][:, :, 0, 0], axis=0)) > 0.9 * len(splits.train)


def test_captions_draw_from_all_templates_in_any_order() -> None:
    source = Scenes(train=400, objects=60, seed=3)
    names, layouts = [one.names[0] for one in source.drawings()], source.layouts("train")
    first, places = set[str](), set[int]()
    for layout, captions in zip(layouts, source._captions("train", layouts, names), strict=True):
        if len(layout.objects) == 1:
            first.add(re.sub(rf"(an? )?{re.escape(names[layout.objects[0].drawing])}", "it", captions[0]))
        else:
            places |= {place for place, text in enumerate(captions) if text.endswith(("in one picture", "together"))}
    assert len(first) == 8
    assert places == {0, 1, 2, 3, 4}
