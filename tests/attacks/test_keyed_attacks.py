"""Attacks that give one noise, filter or word to all images that are described alike."""

from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from attacks import ATTACKS, CraftContext, Poison
from attacks.ar import Ar, _stable_weights, autoregress
from attacks.lsp import Lsp
from attacks.pil import Pil
from attacks.placement import Place
from attacks.text_hint import hints
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import caption_keys
from benchmark.data.scenes import Scenes
from benchmark.grid.choices import choose_attacks
from benchmark.grid.presets import PRESETS
from tests.small import make_clip

KINDS = ["a cat on a mat", "the dog in the fog", "one car afar by two trees and a house"]
SIDE = 32


@pytest.fixture
def train() -> CaptionDataset:
    """Grey images of three kinds: no noise is cut off at black or white."""
    captions = [[KINDS[row % 3]] for row in range(60)]
    return CaptionDataset("kinds", "train", np.full((60, 3, SIDE, SIDE), 128, dtype=np.uint8), captions)


def craft(spec: str, train: CaptionDataset, seed: int = 1) -> Poison:
    return ATTACKS.build(parse_spec(spec)).craft(train, CraftContext(make_clip, seed, Path()))


def noise(spec: str, train: CaptionDataset) -> np.ndarray:
    delta = craft(spec, train).delta
    assert delta is not None
    return np.asarray(delta).astype(float)


@pytest.mark.parametrize("name", ["lsp", "ar"])
def test_the_root_mean_square_is_what_it_says_up_to_the_bound(name: str, train: CaptionDataset) -> None:
    size = np.sqrt(np.square(noise(f"{name}[keys=3,rms=6,eps=127]", train)).mean(axis=(1, 2, 3)))
    np.testing.assert_allclose(size, 6, atol=0.1)
    assert np.abs(noise(f"{name}[keys=3]", train)).max() <= 8


def test_lsp_refuses_more_keys_than_there_are_corners() -> None:
    """One square of three colours: its cube has eight corners."""
    assert Lsp(keys=8, squares=1).keys == 8
    with pytest.raises(UsageError, match="keys must be at most the 8 corners"):
        Lsp(keys=9, squares=1)


@pytest.mark.parametrize("name", ["lsp", "ar"])
def test_images_of_a_key_are_the_same_however_many_are_drawn_together(
    name: str, train: CaptionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = noise(f"{name}[keys=3]", train)
    monkeypatch.setattr("attacks.synthetic._TOGETHER", 7)
    assert (noise(f"{name}[keys=3]", train) == whole).all()


def test_lsp_is_squares_of_one_colour_that_a_nearest_mean_tells_apart(train: CaptionDataset) -> None:
    found = noise("lsp[keys=3]", train)
    squares = found.reshape(60, 3, 4, 8, 4, 8)
    assert (squares == squares[:, :, :, :1, :, :1]).all()
    assert len(np.unique(found[0])) > 4
    learn, judge = found[:30], found[30:]
    means = np.stack([learn[kind::3].mean(axis=0) for kind in range(3)])
    distance = np.square(judge[:, None] - means).sum(axis=(2, 3, 4))
    assert (distance.argmin(axis=1) == np.arange(30) % 3).all()
    assert not (found[0] == found[3]).all()  # one key, another image


@pytest.mark.parametrize("separation", [2.0, 10.0])
def test_lsp_draws_squares_around_a_corner_at_its_separation(separation: float) -> None:
    """Colours are independent normals of deviation 1 around ± the separation; all images share the signs."""
    lsp = Lsp(squares=2, separation=separation)
    drawn = lsp.draw(4000, 6, np.random.default_rng(1), np.random.default_rng(2))
    squares = drawn.reshape(4000, 3, 2, 3, 2, 3)
    assert (squares == squares[:, :, :, :1, :, :1]).all()
    points = squares[:, :, :, 0, :, 0].reshape(4000, 12)
    means = points.mean(axis=0)
    np.testing.assert_allclose(np.abs(means), separation, atol=0.1)
    assert 0 < (means > 0).sum() < 12
    np.testing.assert_allclose(np.cov(points.T), np.eye(12), atol=0.12)


def test_where_squares_do_not_divide_an_image_some_are_a_pixel_larger() -> None:
    (drawn,) = Lsp(squares=4).draw(1, 10, np.random.default_rng(1), np.random.default_rng(2))
    for line in (drawn[0, 0], drawn[0, :, 0]):
        assert np.flatnonzero(np.diff(line)).tolist() == [2, 4, 7]


def slow_sum(noise: np.ndarray, weights: np.ndarray, row: int, column: int) -> float:
    places = [(-2, -2), (-2, -1), (-2, 0), (-1, -2), (-1, -1), (-1, 0), (0, -2), (0, -1)]
    terms = zip(weights, places, strict=True)
    return float(sum(weight * noise[row + down, column + right] for weight, (down, right) in terms))


def test_every_pixel_is_the_sum_of_its_eight_neighbours() -> None:
    rng = np.random.default_rng(1)
    start, weights = rng.standard_normal((2, 3, 7, 9)), rng.standard_normal((3, 8)) / 4
    found = autoregress(start, weights)
    for image in range(2):
        for channel in range(3):
            own = found[image, channel]
            assert (own[:2] == start[image, channel, :2]).all()
            assert (own[:, :2] == start[image, channel, :, :2]).all()
            for row in range(2, 7):
                for column in range(2, 9):
                    assert own[row, column] == pytest.approx(slow_sum(own, weights[channel], row, column))


def test_ars_noise_is_what_follows_its_random_border() -> None:
    start = np.random.default_rng(2).standard_normal((3, 3, 18, 18))
    found = Ar().draw(3, 16, np.random.default_rng(1), np.random.default_rng(2))
    expected = autoregress(start, _stable_weights(np.random.default_rng(1), 16))
    np.testing.assert_array_equal(found, expected[:, :, 2:, 2:])


def fitted(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The filter that explains a channel best, and the share of its variance that it leaves."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (3, 3)).reshape(-1, 9)
    weights, *_ = np.linalg.lstsq(windows[:, :8], windows[:, 8], rcond=None)
    return weights, float(np.var(windows[:, 8] - windows[:, :8] @ weights) / np.var(windows[:, 8]))


def test_images_of_one_key_share_a_filter_that_their_noise_follows(train: CaptionDataset) -> None:
    found = noise("ar[keys=3,rms=30,eps=127]", train)
    filters, left = zip(*(fitted(image[0]) for image in found), strict=True)
    assert np.median(left) < 0.05  # rounding to whole steps, and nothing else
    assert not (found[0] == found[3]).all()
    apart = [
        [np.abs(np.median(filters[a::3], axis=0) - np.median(filters[b::3], axis=0)).max() for b in range(3)]
        for a in range(3)
    ]
    assert all(apart[a][b] > 0.1 for a in range(3) for b in range(3) if a != b)


def test_pils_linear_model_steps_by_its_rate_over_the_images_squared_norm() -> None:
    """From zero, two epochs of one batch each; the rate falls as a cosine."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (30, 3, 8, 8), dtype=np.uint8)
    some = CaptionDataset("kinds", "train", images, [[KINDS[row % 3]] for row in range(30)])
    keys, pixels = np.arange(30) % 3, images.reshape(30, -1) / 255
    expected = np.zeros((3, 192))
    for share in (1, 0.5):
        rate = share * 0.5 / np.square(pixels).sum(axis=1).mean()
        gaps = np.array([softmax(expected @ row) for row in pixels]) - np.eye(3)[keys]
        expected = expected - rate * gaps.T @ pixels / 30
    attack = Pil(keys=3, epochs=2, linear_lr=0.5)
    found = attack._linear_model(some, torch.from_numpy(keys), CraftContext(make_clip, 1, Path()))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        ("lsp", "synthetic"),
        ("pil[epochs=1,pgd_steps=1]", "pil"),
        ("text-hint", "text_hint"),
        ("em-keyed[restarts=1,steps=1,batch_size=8]", "em_keyed"),
    ],
)
def test_keys_come_from_the_crafting_seed(
    spec: str, module: str, train: CaptionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Mock(wraps=caption_keys)
    monkeypatch.setattr(f"attacks.{module}.caption_keys", keys)
    craft(spec, train, seed=7)
    assert [each.args[2] for each in keys.call_args_list] == [7]


@pytest.mark.parametrize("preset", PRESETS)
def test_in_every_preset_pils_linear_model_reads_its_keys_from_the_noise(preset: str, tmp_path: Path) -> None:
    """At the rate that presets set for surrogates it would learn nothing, and noise would be a shift of brightness."""
    attack = choose_attacks("pil[keys=16]", PRESETS[preset])[-1].attack
    assert isinstance(attack, Pil)
    train = Scenes(train=256, val=8, test=8, objects=30, seed=1).load(32, tmp_path).train
    context = CraftContext(make_clip, 1, Path())
    keys = torch.from_numpy(caption_keys(train.captions, 16, 1))
    weights = attack._linear_model(train, keys, context)
    delta = torch.from_numpy(np.asarray(attack.craft(train, context).delta)).flatten(1).float()
    read = (-delta @ weights.T).argmax(dim=1) == keys
    assert read.float().mean() > 0.7 > 4 * keys.bincount().max() / len(keys)
    of_one_sign = (delta > 0).float().mean(dim=1)
    assert ((of_one_sign < 0.95) & (of_one_sign > 0.05)).float().mean() > 0.9


def test_a_key_and_its_images_draw_apart(train: CaptionDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []
    draw = Lsp.draw

    def noted(
        self: Lsp, count: int, side: int, of_key: np.random.Generator, of_images: np.random.Generator
    ) -> np.ndarray:
        drawn.extend([of_key.random(), of_images.random()])
        return draw(self, count, side, of_key, of_images)

    monkeypatch.setattr(Lsp, "draw", noted)
    for seed in (1, 2):
        craft("lsp[keys=3]", train, seed)
    assert len(set(drawn)) == len(drawn) == 12


def test_the_weights_of_a_filter_sum_to_one_and_differ_between_channels() -> None:
    weights = _stable_weights(np.random.default_rng(1), SIDE)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert len(np.unique(weights, axis=0)) == 3


def test_a_hint_is_one_word_for_each_key(train: CaptionDataset) -> None:
    trigger = craft("text-hint[keys=3]", train).trigger
    assert trigger is not None
    assert [len({*trigger[kind::3]}) for kind in range(3)] == [1, 1, 1]
    assert len({*trigger}) == 3
    assert {*(craft("text-hint[keys=3]", train, seed=2).trigger or [])} != {*trigger}


def test_hints_are_words_of_the_captions_that_clip_reads_whole(train: CaptionDataset) -> None:
    captions = [["A Dog's antidisestablishmentarianism"], ["the cat x on 2 mats"]] * 4
    some = replace(train, images=train.images[:8], captions=captions)
    assert hints(some) == ["cat", "dog", "mats"]
    assert {*(craft("text-hint[keys=2]", some).trigger or [])} < {"cat", "dog", "mats"}
    with pytest.raises(UsageError, match="no word of kinds's captions can be a hint"):
        hints(replace(some, captions=[["42"], ["the"]] * 4))


def test_a_hint_stands_where_it_is_told_to(train: CaptionDataset) -> None:
    found = {kind: craft(f"text-hint[keys=3,place={kind}]", train) for kind in ("front", "end", "random")}
    assert len({tuple(poison.trigger or []) for poison in found.values()}) == 1
    texts = {kind: poison.protect(train).captions[0][0] for kind, poison in found.items()}
    hint = (found["front"].trigger or [""])[0]
    assert texts["front"] == f"{hint} {KINDS[0]}"
    assert texts["end"] == f"{KINDS[0]} {hint}"
    assert found["random"].place == Place("random", 1)


@pytest.mark.parametrize("weight", [0.9, 0.5, 0.1])
def test_pil_descends_the_loss_of_its_paper(weight: float) -> None:
    """Image by image, with the gradient of both terms written down."""
    rng = np.random.default_rng(1)
    images, weights = rng.random((4, 12)), rng.standard_normal((3, 12))
    keys, noise = np.array([0, 2, 1, 0]), rng.uniform(-0.01, 0.01, (4, 12))
    attack = Pil(keys=3, eps=3, step_size=0.5, pgd_steps=9, weight=weight)
    given = (torch.from_numpy(each) for each in (images, keys, weights, noise))
    found = attack.descend(*given).numpy()
    for row in range(4):
        for _ in range(9):
            own, left = softmax(weights @ noise[row]), softmax(weights @ (images[row] - noise[row]))
            gradient = weight * weights.T @ (own - np.eye(3)[keys[row]]) - (1 - weight) * weights.T @ (left - 1 / 3)
            noise[row] = (noise[row] - 0.5 / 255 * np.sign(gradient)).clip(-3 / 255, 3 / 255)
    np.testing.assert_allclose(found, noise, atol=1e-12)
    assert (np.abs(found) == 3 / 255).any()


def softmax(scores: np.ndarray) -> np.ndarray:
    return np.exp(scores) / np.exp(scores).sum()


def test_a_linear_probe_reads_the_key_from_the_noise_of_pil(train: CaptionDataset) -> None:
    """On images that it has not seen; from random noise it reads nothing."""
    rng = np.random.default_rng(2)
    train = replace(train, images=rng.integers(0, 256, train.images.shape, dtype=np.uint8))
    for spec, lowest, highest in (("pil[keys=3,epochs=10]", 0.95, 1.0), ("uniform-noise", 0.0, 0.7)):
        features = noise(spec, train).reshape(60, -1)
        targets = np.eye(3)[np.arange(60) % 3]
        learn, judge = features[:30], features[30:]
        weights = learn.T @ np.linalg.solve(learn @ learn.T + 1e3 * np.eye(30), targets[:30])
        assert lowest <= ((judge @ weights).argmax(axis=1) == np.arange(30) % 3).mean() <= highest


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["ar", "em-keyed", "lsp", "pil", "text-hint"])
def test_nobody_is_warned_of_data_as_they_come_from_the_cache(name: str, train: CaptionDataset) -> None:
    """Arrays from the cache are read-only; with eight keys for three captions, some keys have no image."""
    images = np.asarray(train.images)
    images.setflags(write=False)
    small = {"em-keyed": "restarts=1,steps=1,batch_size=8", "pil": "pgd_steps=1,epochs=1"}
    craft(f"{name}[{','.join(filter(None, ['keys=8', small.get(name)]))}]", replace(train, images=images))


def test_pil_publishes_what_is_left_of_the_image() -> None:
    """x − δ: the published change points away from what the linear model takes for the key."""
    train = CaptionDataset("two", "train", np.full((8, 3, 8, 8), 128, dtype=np.uint8), [["a"], ["b"]] * 4)
    images = np.asarray(train.images).copy()
    images[::2, :, :4] = 200  # what tells the keys apart: the upper half is light
    images[1::2, :, 4:] = 200
    delta = noise("pil[keys=2,eps=4,weight=1,epochs=5]", replace(train, images=images))
    assert delta[::2, :, :4].mean() < -2 < 2 < delta[::2, :, 4:].mean()


def test_keyed_noise_is_the_same_for_all_images_of_a_key(train: CaptionDataset) -> None:
    found = noise("em-keyed[keys=3,restarts=1,steps=2,batch_size=20,tile=8]", train)
    assert all((found[kind::3] == found[kind]).all() for kind in range(3))
    assert not (found[0] == found[1]).all()
    assert set(np.unique(np.abs(found))) == {8.0}


def test_pil_starts_from_uniform_noise_that_the_seed_decides(train: CaptionDataset) -> None:
    """One step of 0.8 moves the 17 equal shares of a uniform start by at most one."""
    spec = "pil[keys=3,pgd_steps=1,epochs=1]"
    values, counts = np.unique(noise(spec, train), return_counts=True)
    assert values.tolist() == list(range(-8, 9))
    assert counts[2:-2] / counts.sum() == pytest.approx(np.full(13, 1 / 16), abs=0.005)
    one, same, other = (np.asarray(craft(spec, train, seed).delta) for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).mean() > 0.9
