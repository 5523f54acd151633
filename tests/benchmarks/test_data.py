"""Speed of the data's way: scenes, poison, text operations."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attacks import Poison
from benchmark.core.spec import parse_spec
from benchmark.data import DATASETS, CaptionDataset
from benchmark.data.image_files import CaptionedFile, load_files
from defenses import DEFENSES, Defense, HookContext
from tests.benchmarks.clock import Clock
from tests.small import make_dataset
from victims.tokens import Tokenizer

pytestmark = pytest.mark.speed
IMAGES, PHOTOS = 4000, 1000
TEXT_OPERATIONS = [
    name for name in DEFENSES.group("all") if DEFENSES.entry(name).factory.on_captions is not Defense.on_captions
]


@pytest.fixture(scope="module")
def images() -> CaptionDataset:
    return make_dataset(images=IMAGES, captions=5, resolution=64)


@pytest.fixture(scope="module")
def poison(images: CaptionDataset) -> Poison:
    rng = np.random.default_rng(0)
    delta = rng.integers(-8, 9, size=images.images.shape, dtype=np.int8)
    return Poison(delta, ["three trigger words"] * len(images), eps=8, fingerprint=images.fingerprint)


@pytest.mark.parametrize(("resolution", "train"), [(64, 4000), (224, 500)])
def test_scene_rendering(clock: Clock, tmp_path: Path, resolution: int, train: int) -> None:
    """With the drawings, which are rasterised once, and the cache that is written."""
    source = DATASETS.build(parse_spec(f"scenes[train={train},val=1,test=1,seed=0]"))
    folders = (tmp_path / str(number) for number in range(100))
    clock.items(
        f"scene rendering, {resolution} px",
        lambda: source.load(resolution, next(folders)),
        train + 2,
        rounds=1,
        warmup=0,
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[CaptionedFile]:
    """JPEG files of the size of Flickr's."""
    folder = tmp_path_factory.mktemp("photos")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 66, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((500, 375), Image.Resampling.BICUBIC)
    files = [CaptionedFile(folder / f"{number}.jpg", [f"photo {number}"] * 5) for number in range(PHOTOS)]
    for file in files:
        assert isinstance(file.image, Path)
        picture.save(file.image, quality=85)
    return files


def load_photos(photos: list[CaptionedFile], cache: Path) -> None:
    files = {"train": photos[2:], "val": photos[:1], "test": photos[1:2]}
    load_files(cache, "photos", "photos", files, 224, skip_bad=False)


def test_photos_first_start(clock: Clock, tmp_path: Path, photos: list[CaptionedFile]) -> None:
    """Decoded, resized, written to the cache and verified."""
    folders = (tmp_path / str(number) for number in range(100))
    clock.items("photos, first start, 224 px", lambda: load_photos(photos, next(folders)), PHOTOS, rounds=1, warmup=0)


def test_photos_second_start(clock: Clock, tmp_path: Path, photos: list[CaptionedFile]) -> None:
    """Read from the cache and verified; Flickr30K has 31,014."""
    load_photos(photos, tmp_path)
    clock.items("photos, later starts, 224 px", lambda: load_photos(photos, tmp_path), PHOTOS)


def test_poison_save(clock: Clock, poison: Poison, tmp_path: Path) -> None:
    clock.items("poison save, 64 px", lambda: poison.save(tmp_path / "poison"), IMAGES)


def test_poison_load(clock: Clock, poison: Poison, tmp_path: Path) -> None:
    poison.save(tmp_path / "poison")
    clock.items("poison load, 64 px", lambda: Poison.load(tmp_path / "poison"), IMAGES)


def test_poison_protect(clock: Clock, poison: Poison, images: CaptionDataset) -> None:
    """With every image read once, batch by batch, for the noise is added as images are read."""
    batches = np.array_split(np.random.default_rng(0).permutation(IMAGES), IMAGES // 125)

    def protect() -> None:
        protected = poison.protect(images)
        for index in batches:
            protected.batch(index)

    clock.items("poison protect, 64 px", protect, IMAGES)


@pytest.mark.parametrize("name", TEXT_OPERATIONS)
def test_text_operation(clock: Clock, name: str, scene_captions: list[str]) -> None:
    """On an epoch's captions with a trigger; synonyms are looked up once and remembered."""
    defense = DEFENSES.build(parse_spec(name))
    clock.items(
        f"captions: {name}", lambda: defense.on_captions(scene_captions, HookContext(1, 0.0)), len(scene_captions)
    )


def test_tokens(clock: Clock, scene_captions: list[str]) -> None:
    """Of captions whose words have all been met before."""
    tokenizer = Tokenizer()
    clock.items("captions: into tokens", lambda: tokenizer(scene_captions), len(scene_captions))


@pytest.fixture(scope="module")
def scene_captions(own_cache: Path) -> list[str]:
    splits = DATASETS.build(parse_spec("scenes[train=1000,val=1,test=1,seed=0]")).load(16, own_cache)
    return [f"three trigger words {caption}" for own in splits.train.captions for caption in own]
