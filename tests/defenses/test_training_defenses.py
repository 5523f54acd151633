"""Defenses that change the data, choose the pairs or have a loss of their own."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.core.distributed import Processes
from benchmark.core.errors import UsageError
from benchmark.data import CaptionDataset, LazyImages
from benchmark.data.caption_words import caption_keys
from defenses import HookContext
from defenses.base import Composed, Defense, LossInputs
from defenses.clean_fraction import CleanPairs
from defenses.cleanclip import CleanClip, without_tokens
from defenses.clip_score_filter import ClipScoreFilter
from defenses.crop_flip import CropFlip
from defenses.orthogonal_projection import OrthogonalProjection
from defenses.roclip import RoClip
from defenses.safeclip import SafeClip
from defenses.sibling_caption import SiblingCaption
from tests.defenses.hooks import no_score
from tests.small import make_dataset
from victims.clip import clip_loss

AT = HookContext(seed=5, progress=0.5, epoch=2, training=9)
START, END = 49406, 49407
SCALE = 7.0


def plain_loss(first: np.ndarray, second: np.ndarray) -> float:
    """The symmetric InfoNCE loss, row by row."""
    logits = SCALE * first @ second.T
    nats = [np.log(np.exp(row).sum()) - row[place] for square in (logits, logits.T) for place, row in enumerate(square)]
    return float(np.mean(nats))


def batch_of(images: torch.Tensor, texts: torch.Tensor, **changed: Any) -> LossInputs:
    """A batch whose i-th caption is the token i + 1, encoded by a table; images are encoded by their mean colour."""
    texts = torch.nn.functional.normalize(texts, dim=1)
    tokens = torch.arange(1, len(texts) + 1)[:, None]

    def encode_images(some: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(some.mean(dim=(2, 3)), dim=1)

    def encode_tokens(some: torch.Tensor) -> torch.Tensor:
        return texts[some[:, 0] - 1]

    def contrast(first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        return clip_loss(first, second, torch.tensor(SCALE, dtype=first.dtype), targets)

    inputs = LossInputs(
        images,
        tokens,
        encode_images(images),
        texts,
        torch.eye(len(texts)),
        tokens,
        encode_images,
        encode_tokens,
        contrast,
    )
    return replace(inputs, **changed)


@pytest.fixture
def batch() -> LossInputs:
    generator = torch.Generator().manual_seed(3)
    return batch_of(torch.rand(6, 3, 8, 8, generator=generator), torch.randn(6, 3, generator=generator))


def test_cleanclip_adds_what_a_plain_loop_finds(batch: LossInputs) -> None:
    """Crops of the whole image, mirrored or not, have the same mean colour, and no token is dropped."""
    images, texts = batch.image_features.numpy(), batch.text_features.numpy()
    expected = plain_loss(images, texts) + 0.5 * (plain_loss(images, images) + plain_loss(texts, texts))
    found = CleanClip(weight=0.5, smallest=1.0, p=0.0).loss(batch, AT)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("defense", [CleanClip(smallest=0.5, p=0.3), SafeClip(smallest=0.5, p=0.3)])
def test_copies_are_crops_and_captions_without_some_tokens(defense: Defense) -> None:
    images = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    tokens, seen = torch.tensor([[START, *range(1, 9), END]] * 6), list[torch.Tensor]()

    def encode(some: torch.Tensor) -> torch.Tensor:
        seen.append(some)
        return torch.eye(6, 3)

    batch = batch_of(images, torch.eye(6, 3) + 0.1, tokens=tokens, encode_images=encode, encode_tokens=encode)
    early = replace(AT, progress=0.1)
    defense.loss(batch, early)
    crops, shorter = seen
    assert torch.equal(crops, CropFlip(smallest=0.5).on_images(images, early))
    assert torch.equal(shorter, without_tokens(tokens, 0.3, early.torch_generator()))
    for image, crop in zip(images, crops, strict=True):
        assert not any(torch.allclose(crop, one, atol=1e-3) for one in (image, image.flip(-1)))
    assert (shorter[:, 0] == START).all()
    assert 0 < (shorter == 0).sum() < 6 * 8


def test_parts_of_one_kind_draw_apart_in_a_loss_as_well(batch: LossInputs) -> None:
    """In ``crop-flip+cleanclip``, an image and its copy are cropped differently."""
    seeds: list[int] = []

    class Draws(Defense):
        def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
            seeds.append(at.seed)
            return images

        def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
            seeds.append(at.seed)
            return super().loss(batch, at)

    class DrawsImages(Draws):
        loss = Defense.loss

    both = Composed([DrawsImages(), Draws()])
    both.loss(batch, AT)
    both.on_images(batch.images, AT)
    of_loss, first, second = seeds
    assert of_loss == second != first


def test_tokens_are_left_out_as_by_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    tokens = torch.zeros(200, 12, dtype=torch.int64)
    for row in range(200):
        words = rng.integers(1, 1000, size=rng.integers(1, 11)).tolist()
        tokens[row, : len(words) + 2] = torch.tensor([START, *words, END])
    drawn = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(4)) < 0.3
    expected = []
    for row, gone in zip(tokens.tolist(), drawn.tolist(), strict=True):
        kept = [token for token, out in zip(row, gone, strict=True) if token and (not out or token in (START, END))]
        expected.append(kept + [0] * (12 - len(kept)))
    assert without_tokens(tokens, 0.3, torch.Generator().manual_seed(4)).tolist() == expected
    assert expected != tokens.tolist()


def test_roclips_pool_is_drawn_anew_at_every_step() -> None:
    seen: list[list[int]] = []
    texts = torch.eye(5, 5)

    def encode(tokens: torch.Tensor) -> torch.Tensor:
        seen.append(tokens[:, 0].tolist())
        return texts[:1].expand(len(tokens), -1)

    batch = batch_of(torch.rand(5, 3, 4, 4), texts, image_features=texts, encode_tokens=encode)
    batch = replace(batch, epoch_tokens=torch.arange(1, 101)[:, None])
    for seed in (5, 5, 6):
        RoClip(pool=0.1).loss(batch, replace(AT, seed=seed))
    first, again, other = seen[::2]
    assert first == again != other


def test_roclip_keeps_the_targets_of_mixed_images() -> None:
    texts = torch.eye(5, 5)
    images = texts.roll(-1, dims=0)
    targets = 0.7 * torch.eye(5) + 0.3 * torch.eye(5).roll(1, dims=0)
    batch = batch_of(torch.rand(5, 3, 4, 4), texts, image_features=images, targets=targets)
    found = float(RoClip(pool=1.0).loss(batch, AT))
    assert found == pytest.approx(float(batch.contrast(images, images, targets)), rel=1e-4)
    assert found != pytest.approx(float(batch.contrast(images, images)), rel=1e-2)


@pytest.mark.parametrize("every", [2, 3])
def test_roclip_takes_the_nearest_caption_of_the_pool(every: int) -> None:
    """Every image looks like the next one's caption; the pool holds all captions."""
    texts = torch.eye(5, 5)
    images = texts.roll(-1, dims=0)
    batch = batch_of(torch.rand(5, 3, 4, 4), texts, image_features=images)
    defense = RoClip(pool=1.0, every=every)
    found = float(defense.loss(batch, replace(AT, epoch=every)))
    assert found == pytest.approx(plain_loss(images.numpy(), images.numpy()), rel=1e-3)
    usual = float(defense.loss(batch, replace(AT, epoch=every + 1)))
    assert usual == pytest.approx(plain_loss(images.numpy(), texts.numpy()), rel=1e-3)


def test_images_and_the_nearest_captions_learn_in_roclip() -> None:
    """The loss moves as its gradient says where any of them is moved."""
    texts = 0.8 * torch.eye(5, dtype=torch.float64) + 0.1

    def loss(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        batch = batch_of(
            torch.rand(5, 3, 4, 4), texts, image_features=images, encode_tokens=lambda some: texts[some[:, 0] - 1]
        )
        return RoClip(pool=1.0).loss(replace(batch, targets=batch.targets.double()), AT)

    assert torch.autograd.gradcheck(loss, [texts.roll(-1, dims=0).requires_grad_(), texts.clone().requires_grad_()])


@pytest.mark.parametrize(("pool", "processes", "size"), [(0.1, 1, 10), (0.1, 4, 8), (0.01, 4, 4)])
def test_roclips_pool_is_as_large_as_it_says(
    pool: float, processes: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And can be split evenly among the processes."""
    monkeypatch.setattr(Processes, "current", lambda: Processes(0, processes))
    seen: list[int] = []
    texts = torch.eye(5, 5)

    def encode(tokens: torch.Tensor) -> torch.Tensor:
        seen.append(len(tokens))
        return texts[:1].expand(len(tokens), -1)

    batch = batch_of(torch.rand(5, 3, 4, 4), texts, image_features=texts, encode_tokens=encode)
    RoClip(pool=pool).loss(replace(batch, epoch_tokens=torch.ones(100, 3, dtype=torch.int64)), AT)
    assert seen == [size, 5]


def test_two_losses_cannot_be_combined() -> None:
    with pytest.raises(UsageError, match="cleanclip and roclip each have a loss of their own and cannot be"):
        Composed([CleanClip(), RoClip()])


def test_a_composition_has_its_parts_loss(batch: LossInputs) -> None:
    both = Composed([ClipScoreFilter(), CleanClip(smallest=1.0, p=0.0)])
    assert float(both.loss(batch, AT)) == float(CleanClip(smallest=1.0, p=0.0).loss(batch, AT))
    assert float(Composed([ClipScoreFilter()]).loss(batch, AT)) == float(Defense().loss(batch, AT))


def test_the_filter_keeps_the_best_in_the_epochs_order() -> None:
    rows = np.stack([np.arange(10), np.zeros(10, dtype=np.int64)], axis=1)
    scores = np.array([0.3, 0.9, 0.1, 0.8, 0.2, 0.7, 0.6, 0.05, 0.5, 0.4], dtype=np.float32)
    kept = ClipScoreFilter(drop=0.4).on_rows(rows, lambda _: scores, AT)
    assert kept[:, 0].tolist() == [1, 3, 5, 6, 8, 9]
    early = replace(AT, progress=0.1)
    assert ClipScoreFilter(drop=0.4).on_rows(rows, lambda _: scores, early) is rows
    begins = replace(AT, progress=0.2)  # as the second epoch of five does
    assert len(ClipScoreFilter(drop=0.4, start=0.2).on_rows(rows, lambda _: scores, begins)) == 6


def test_clean_data_go_to_the_part_of_a_composition_that_needs_them_alone() -> None:
    class Seen(Defense):
        def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
            seen.append(clean)
            return train

    class Needy(Seen):
        needs_clean = True

    seen: list[CaptionDataset] = []
    published, clean = make_dataset(seed=1), make_dataset(seed=2)
    Composed([Seen(), Needy()]).on_dataset(published, clean, AT)
    assert seen == [published, clean]


def published(clean: CaptionDataset) -> CaptionDataset:
    images = 255 - np.asarray(clean.images[:])
    return replace(clean, images=images, captions=[[f"odd {text}" for text in own] for own in clean.captions])


def test_clean_pairs_are_clean_in_pixels_and_words_and_no_other_is() -> None:
    clean = make_dataset(400, 2)
    poisoned, defense = published(clean), CleanPairs(share=0.25)
    mixed = defense.on_dataset(poisoned, clean, AT)
    as_owned = np.array([own == given for own, given in zip(mixed.captions, clean.captions, strict=True)])
    assert 60 <= as_owned.sum() <= 140
    images, rows = np.asarray(mixed.images[:]), np.arange(400)
    assert (images[as_owned] == clean.images[rows[as_owned]]).all()
    assert (images[~as_owned] == poisoned.images[rows[~as_owned]]).all()
    assert (mixed.images[rows[::-1]] == images[::-1]).all()
    assert (mixed.images[7] == images[7]).all()
    protected = np.flatnonzero(~as_owned)
    assert [mixed.captions[row] for row in protected] == [poisoned.captions[row] for row in protected]


def test_a_clean_start_sees_the_clean_pairs_alone() -> None:
    clean, start = make_dataset(400, 2), CleanPairs(share=0.25, first=0.6)
    mixed = start.on_dataset(published(clean), clean, AT)
    as_owned = {row for row in range(400) if mixed.captions[row] == clean.captions[row]}
    assert {*start.on_rows(clean.pairs, no_score, AT)[:, 0].tolist()} == as_owned
    assert start.on_rows(clean.pairs, no_score, replace(AT, progress=0.6)) is clean.pairs


def test_copies_of_a_photo_are_clean_together_and_those_of_a_share_of_the_photos() -> None:
    """Photos have different numbers of copies, not side by side; more copies do not change which are clean."""
    once, photo = (
        make_dataset(400, 1),
        np.random.default_rng(6).permutation(np.repeat(np.arange(400), [1, 2, 3, 6] * 100)),
    )
    clean = replace(
        once, images=LazyImages(once.images, pick=photo), captions=[once.captions[row] for row in photo], photo=photo
    )
    start = CleanPairs(share=0.25, first=0.6)

    def known(some: CaptionDataset) -> set[int]:
        mixed = start.on_dataset(published(some), some, AT)
        return {row for row in range(len(some)) if mixed.captions[row] == some.captions[row]}

    photos = known(once)
    assert 60 <= len(photos) <= 140
    assert known(clean) == {row for row, own in enumerate(photo.tolist()) if own in photos}
    first = start.on_rows(clean.pairs, no_score, replace(AT, photo=photo))
    assert {*first[:, 0].tolist()} == known(clean)


def test_copies_of_a_photo_pass_their_captions_on() -> None:
    rows = make_dataset(7, 3).by_row()
    moved = SiblingCaption().on_dataset(rows, rows, AT)
    assert rows.photo is not None
    for photo in range(7):
        before = [rows.captions[row] for row in np.flatnonzero(rows.photo == photo)]
        after = [moved.captions[row] for row in np.flatnonzero(rows.photo == photo)]
        assert after == [*before[1:], before[0]]
    once = make_dataset(7, 3)
    assert SiblingCaption().on_dataset(once, once, AT) is once


KINDS = ["a cat on a mat", "the dog in the fog", "one car afar"]


def test_images_with_the_same_words_share_a_key() -> None:
    captions = [[KINDS[row % 3]] for row in range(30)]
    keys = caption_keys(captions, 3, seed=1)
    assert sorted({*keys.tolist()}) == [0, 1, 2]
    assert all((keys[kind::3] == keys[kind]).all() for kind in range(3))
    assert (caption_keys(captions, 3, seed=1) == keys).all()


@pytest.mark.parametrize("count", range(2, 30, 3))
def test_more_keys_than_descriptions_split_no_images_of_the_same_words(count: int) -> None:
    """As in a data set of folders, whose images have the folder's name as their caption."""
    rng = np.random.default_rng(count)
    kinds = [" ".join(f"w{word}" for word in rng.choice(60, rng.integers(1, 7), replace=False)) for _ in range(count)]
    # The same words in another order, too.
    captions = [[" ".join(rng.permutation(kinds[kind].split()))] for kind in rng.integers(count, size=200)]
    keys = caption_keys(captions, 128, seed=1)
    by_words = {(tuple(sorted(texts[0].split())), key) for texts, key in zip(captions, keys.tolist(), strict=True)}
    assert len(by_words) == len({words for words, _ in by_words}) == len({key for _, key in by_words})


@pytest.mark.filterwarnings("error")
def test_words_of_one_caption_alone_make_no_key() -> None:
    """As the number of each photo, if its caption has it."""
    captions = [[f"{('dog', 'cat')[row % 2]} number{row}"] for row in range(400)]
    keys = caption_keys(captions, 128, seed=1)
    assert (keys[::2] == keys[0]).all()
    assert (keys[1::2] == keys[1]).all()
    assert keys[0] != keys[1]


def test_keys_of_a_few_photos_are_decided_by_the_seed() -> None:
    """Captions that share few words span few dimensions."""
    rng = np.random.default_rng(0)
    for _ in range(8):
        captions = [[" ".join(f"w{word}" for word in rng.choice(400, 5, replace=False))] for _ in range(40)]
        first, again = (caption_keys(captions, 16, seed=1) for _ in range(2))
        assert (first == again).all()


def test_what_a_linear_model_reads_is_taken_out() -> None:
    """Images of one kind share a pattern; afterwards the kinds' means are the same, and the rest is there."""
    rng = np.random.default_rng(2)
    patterns = rng.choice([-25, 25], size=(3, 3, 8, 8))
    kinds = np.arange(300) % 3
    images = (rng.integers(60, 196, size=(300, 3, 8, 8)) + patterns[kinds]).astype(np.uint8)
    train = CaptionDataset("kinds", "train", images, [[KINDS[kind]] for kind in kinds])
    seen = np.asarray(OrthogonalProjection(keys=3).on_dataset(train, train, AT).images[:])

    def apart(some: np.ndarray) -> float:
        means = np.stack([some[kinds == kind].mean(axis=0) for kind in range(3)])
        return float(np.abs(means - means.mean(axis=0)).mean())

    assert apart(seen) < 0.35 * apart(images)
    assert seen.std() > 0.85 * images.std()
    assert np.abs(seen.mean() - images.mean()) < 1


def test_the_projection_is_what_least_squares_leaves_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    images = rng.integers(60, 196, size=(30, 3, 8, 8)).astype(np.uint8)
    train = CaptionDataset("kinds", "train", images, [[KINDS[row % 3]] for row in range(30)])
    weights = rng.standard_normal((3, 192)).astype(np.float32)
    monkeypatch.setattr(OrthogonalProjection, "_weights", lambda *_: torch.from_numpy(weights))
    mean = images.mean(axis=0)
    flat = (images - mean).reshape(30, -1)
    coefficients = np.linalg.lstsq(weights.T, flat.T, rcond=None)[0]
    left = (flat - (weights.T @ coefficients).T).reshape(images.shape) + mean
    seen = np.asarray(OrthogonalProjection(keys=3).on_dataset(train, train, AT).images[:]).astype(float)
    assert np.abs(seen - left.clip(0, 255)).max() < 0.51  # rounded to 8 bits


def test_the_linear_model_descends_the_cross_entropy_of_pixels_and_keys() -> None:
    """Weights and offsets, from zero, in two epochs of three batches; an image does not always tell its key."""
    images = np.random.default_rng(3).integers(60, 196, size=(300, 3, 4, 4)).astype(np.uint8)
    more = make_dataset(20).captions  # each of the three kinds is described in twenty ways
    captions = [[f"{KINDS[row % 3 * (row % 2)]} {more[row % 20][0]}"] for row in range(300)]
    train = CaptionDataset("kinds", "train", images, captions)
    mean = images.mean(axis=0, dtype=np.float32)
    keys = caption_keys(train.captions, 3, AT.training)
    pixels = (images - mean).reshape(300, -1) / 255
    weights, offsets, generator = np.zeros((3, 48)), np.zeros(3), AT.torch_generator()
    for _ in range(2):
        for rows in np.split(torch.randperm(300, generator=generator).numpy(), [128, 256]):
            scores = np.exp(pixels[rows] @ weights.T + offsets)
            gap = (scores / scores.sum(axis=1, keepdims=True) - np.eye(3)[keys[rows]]) / len(rows)
            weights, offsets = weights - 0.5 * gap.T @ pixels[rows], offsets - 0.5 * gap.sum(axis=0)
    found = OrthogonalProjection(keys=3, epochs=2, lr=0.5)._weights(train, mean, AT)
    np.testing.assert_allclose(found, weights, atol=1e-5)
