"""Word-wise EM: noise that words share between images, its bound, and the surrogates that learn it."""

import itertools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.sparse import csr_matrix

from attacks import CraftContext, Poison
from attacks.em_wordwise import WordwiseEm
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.errors import UsageError
from benchmark.core.seeding import derive_seed, numpy_generator
from benchmark.core.threads import limited_threads
from benchmark.data import CaptionDataset
from benchmark.data.caption_words import word_weights
from benchmark.export.repeated_noise import tile_of
from defenses import Defense, HookContext
from tests.small import make_clip, make_dataset, noise_of
from victims.clip import Clip, clip_loss
from victims.optimizers import make_optimizer, set_lr
from victims.recipe import Recipe
from victims.training import schedule

SMALL = WordwiseEm(tile=4, restarts=2, steps=3, batch_size=10)


def craft(attack: WordwiseEm, dataset: CaptionDataset, seed: int = 1, checkpoint: Checkpoint | None = None) -> Poison:
    return attack.craft(dataset, CraftContext(make_clip, seed, Path(), checkpoint=checkpoint or Checkpoint()))


def grey(dataset: CaptionDataset) -> CaptionDataset:
    """Images on which no noise is clamped."""
    return replace(dataset, images=np.full_like(dataset.images[:], 128))


def test_weights_by_hand() -> None:
    weights = word_weights([["A red dog", "dog!"], ["a red cat"], ["A cat"]])
    # a: in all three, so its weight is 0; cat: 1 and 2; dog and the like in one image alone are left out.
    columns = {word: place for place, word in enumerate(["a", "cat", "red"])}
    assert weights.shape == (3, 3)
    expected = np.zeros((3, 3))
    expected[0, columns["red"]] = 1
    expected[1, [columns["red"], columns["cat"]]] = 1 / math.sqrt(2)
    expected[2, columns["cat"]] = 1
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-6)


def test_weights_are_those_of_tf_idf() -> None:
    """Against a slow plain version, on captions with repeated words."""
    captions = make_dataset().captions
    texts = [Counter(" ".join(own).lower().split()) for own in captions]
    words = sorted({word for text in texts for word in text if sum(word in other for other in texts) > 1})
    plain = np.array(
        [[text[w] * math.log(len(texts) / sum(w in other for other in texts)) for w in words] for text in texts]
    )
    plain /= np.maximum(np.linalg.norm(plain, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(word_weights(captions).toarray(), plain, atol=1e-6)


@pytest.mark.parametrize(
    "captions",
    [
        [["red dog"], ["red cat"], ["green house"], ["ein Haus"]],  # the last two share no word with any other
        [["a dog"], ["a cat"]],  # what is shared is in all
        [["a dog"], ["a dog"]],
        [["🐕"], ["a dog"], ["?!"]],  # no word at all
    ],
)
def test_every_image_gets_a_pattern_even_if_it_shares_no_telling_word(captions: list[list[str]]) -> None:
    weights = word_weights(captions).toarray()
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, rtol=1e-6)


def test_noise_belongs_to_the_words() -> None:
    """Images with the same words have the same noise, whatever they show; another word changes it."""
    dataset = grey(make_dataset())
    captions = [["red dog sun"], ["red dog sun"], ["dog red sun"], ["green dog sun"]] * (len(dataset) // 4)
    captions += [["green cat"]] * (len(dataset) - len(captions))
    noise = noise_of(craft(SMALL, replace(dataset, captions=captions)))
    assert np.array_equal(noise[0], noise[1])
    assert np.array_equal(noise[0], noise[2])
    assert not np.array_equal(noise[0], noise[3])


def test_the_noise_has_the_signs_of_the_patterns_that_were_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if surrogates had learned to brighten what is a cat and to darken what is a dog."""

    def learn(
        self: WordwiseEm, number: int, train: CaptionDataset, weights: csr_matrix, patterns: torch.Tensor, *_: Any
    ) -> float:
        with torch.no_grad():
            patterns[0], patterns[1] = 0.3, -0.2  # words are in alphabetical order
        return 1.0

    monkeypatch.setattr(WordwiseEm, "_restart", learn)
    dataset = grey(make_dataset(images=4))
    noise = noise_of(craft(SMALL, replace(dataset, captions=[["cat"], ["dog"], ["cat"], ["dog"]])))
    assert [np.unique(of_image).tolist() for of_image in noise] == [[8], [-8], [8], [-8]]


def test_noise_is_a_tile_of_plus_and_minus_eps_and_leaves_captions_alone() -> None:
    dataset = grey(make_dataset())
    poison = craft(SMALL, dataset)
    noise = noise_of(poison)
    assert set(np.unique(noise)) <= {-8, 0, 8}
    assert np.array_equal(noise[:, :, 4:, :], noise[:, :, :-4, :])
    assert np.array_equal(noise[:, :, :, 4:], noise[:, :, :, :-4])
    assert poison.trigger is None
    assert poison.protect(dataset).captions == dataset.captions
    bright = replace(dataset, images=np.full_like(dataset.images[:], 254))
    assert noise_of(craft(SMALL, bright)).max() == 1


def test_a_grain_is_a_square_of_one_value_and_the_tile_stays() -> None:
    noise = noise_of(craft(replace(SMALL, tile=8, grain=2), grey(make_dataset())))
    for row, column in ((0, 1), (1, 0), (1, 1)):
        assert np.array_equal(noise[:, :, row::2, column::2], noise[:, :, ::2, ::2])
    assert np.array_equal(noise[:, :, 8:, 8:], noise[:, :, :-8, :-8])
    assert not np.array_equal(noise[:, :, 2:, :], noise[:, :, :-2, :])
    with pytest.raises(UsageError, match="grain must be a divisor of tile = 8, got 3"):
        replace(SMALL, tile=8, grain=3)


def test_in_a_random_phase_every_image_has_the_pattern_shifted_and_half_of_them_mirrored() -> None:
    dataset = grey(make_dataset())
    dataset = replace(dataset, captions=[["red dog"], ["red cat"]] * (len(dataset) // 2))
    attack = replace(SMALL, random_phase=True)
    noise = noise_of(craft(attack, dataset))[::2]  # of the same words
    tiles = [tile_of(image, 4) for image in noise]
    shifted = [np.roll(tiles[0], (y, x), (1, 2)) for y in range(4) for x in range(4)]
    places = [
        next(i for i, tile in enumerate([*shifted, *(s[:, :, ::-1] for s in shifted)]) if (tile == t).all())
        for t in tiles
    ]
    assert len({place % 16 for place in places}) > 4  # of 16 phases
    assert 0.2 < np.mean([place >= 16 for place in places]) < 0.8
    # The patterns are learned in these phases, too: they are others than those learned in phase.
    in_phase = tile_of(noise_of(craft(SMALL, dataset))[0], 4)
    assert not any((tile == in_phase).all() for tile in [*shifted, *(s[:, :, ::-1] for s in shifted)])
    np.testing.assert_array_equal(noise_of(craft(attack, dataset))[::2], noise)


def test_a_pattern_larger_than_the_image_is_cut_in_any_phase() -> None:
    dataset = grey(make_dataset())
    noise = noise_of(craft(replace(SMALL, tile=48, random_phase=True), dataset))
    assert set(np.unique(noise)) <= {-8, 0, 8}
    assert noise.shape == dataset.images.shape


def test_in_a_random_phase_several_threads_always_give_the_same_gradient() -> None:
    attack, generator = WordwiseEm(random_phase=True), torch.Generator().manual_seed(0)
    tiles, upstream = torch.randn(128, 192, generator=generator), torch.randn(128, 3, 32, 32, generator=generator)
    found = set()
    with limited_threads(5):
        for _ in range(100):
            patterns = tiles.clone().requires_grad_()
            noise = attack._tiled(patterns, 32, torch.Generator().manual_seed(1))
            (gradient,) = torch.autograd.grad((noise * upstream).sum(), patterns)
            found.add(gradient.numpy().tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("permute", [False, True], ids=["its own image", "another image"])
def test_a_step_moves_the_patterns_down_the_plain_loss(permute: bool) -> None:
    """Adam's first step is its rate against the sign of the gradient, here that of a slow plain forward pass."""
    dataset, context = make_dataset(), CraftContext(make_clip, 1, Path())
    attack = replace(SMALL, steps=1, permute_images=permute)
    weights = word_weights(dataset.captions)
    patterns = torch.randn(weights.shape[1], 3 * 4 * 4, generator=torch.Generator().manual_seed(3)).requires_grad_()
    before = patterns.detach().clone()
    attack._restart(0, dataset, weights, patterns, torch.optim.Adam([patterns], lr=0.05), context)

    seed = derive_seed(1, "restart", 0)
    model = make_clip(seed).train()
    ((index, tokens),) = attack._batches(dataset, model, seed)
    leaf = before.clone().requires_grad_()
    images = []
    bases = numpy_generator(seed, "bases").permutation(index) if permute else index
    for image, base in zip(index, bases, strict=True):
        tile = (torch.from_numpy(weights[image].toarray()[0]) @ leaf).tanh().view(3, 4, 4)
        noise = torch.cat([torch.cat([tile] * 8, dim=2)] * 8, dim=1)
        images.append((torch.from_numpy(dataset.images[base].astype(np.float32)) + 8 * noise).clamp(0, 255) / 255)
    clip_loss(model.encode_images(torch.stack(images)), model.encode_tokens(tokens), model.scale).backward()
    assert leaf.grad is not None
    clear = leaf.grad.abs() > 1e-6
    assert clear.float().mean() > 0.5
    moved = patterns.detach() - before
    torch.testing.assert_close(moved[clear], -0.05 * leaf.grad.sign()[clear], rtol=0, atol=2e-3)


def test_a_stopped_crafting_goes_on_to_the_same_noise(tmp_path: Path) -> None:
    dataset, path = make_dataset(), tmp_path / "checkpoint"
    whole = craft(SMALL, dataset)
    craft(SMALL, dataset, checkpoint=Checkpoint(path))
    assert path.is_file()  # of the first restart, since the last is not saved
    resumed = craft(SMALL, dataset, checkpoint=Checkpoint(path))
    assert np.array_equal(noise_of(resumed), noise_of(whole))
    assert resumed.provenance == whole.provenance


def test_too_little_data_is_refused() -> None:
    with pytest.raises(UsageError, match="fewer than one crafting batch of 128"):
        WordwiseEm().check(make_dataset())


def test_every_restart_trains_a_surrogate_of_its_own() -> None:
    built: dict[int, Clip] = {}

    def surrogate(seed: int) -> Clip:
        return built.setdefault(seed, make_clip(seed))

    SMALL.craft(make_dataset(), CraftContext(surrogate, 1, Path()))
    assert len(built) == SMALL.restarts
    for seed, clip in built.items():
        start, trained = (one.model.get_parameter("visual.conv1.weight") for one in (make_clip(seed), clip))
        assert not torch.equal(start, trained)


def test_surrogates_follow_a_victims_schedule_and_moments(monkeypatch: pytest.MonkeyPatch) -> None:
    shares, moments = [], []

    def made(*arguments: Any, **options: Any) -> torch.optim.Optimizer:
        moments.append(options["betas"])
        return make_optimizer(*arguments, **options)

    monkeypatch.setattr("attacks.em_wordwise.set_lr", lambda _, share: shares.append(share))
    monkeypatch.setattr("attacks.em_wordwise.make_optimizer", made)
    craft(replace(SMALL, steps=30), make_dataset())
    a_restart = [schedule(step, 30, Recipe(warmup_share=0.1)) for step in range(30)]
    assert a_restart[0] < a_restart[2] > a_restart[-1]
    assert shares == 2 * a_restart
    assert moments == 2 * [(0.9, 0.98)]


def test_the_loss_of_a_restart_is_the_mean_of_its_last_tenth_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    count = itertools.count(1)
    monkeypatch.setattr("attacks.em_wordwise.clip_loss", lambda images, *_: images.sum() * 0 + float(next(count)))
    poison = craft(replace(SMALL, steps=30), make_dataset())
    assert poison.provenance["loss_per_round"] == [np.mean([28, 29, 30]), np.mean([58, 59, 60])]
    assert craft(replace(SMALL, steps=5), make_dataset()).provenance["loss_per_round"] == [65, 70]


def test_batches_pass_a_defense_at_their_moments_and_with_draws_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    moments: list[HookContext] = []
    drawn: list[float] = []

    class Noting(Defense):
        def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
            moments.append(at)
            drawn.append(float(torch.rand(())))  # from the global state, as dropout does
            return images

    monkeypatch.setattr(WordwiseEm, "_passage", lambda _: Noting())
    craft(replace(SMALL, steps=10, through_share=1.0), make_dataset())
    assert [at.progress for at in moments] == pytest.approx(2 * [step / 10 for step in range(10)])
    assert len({at.seed for at in moments}) == len(set(drawn)) == 20


def test_a_surrogate_trains_as_in_a_plain_loop() -> None:
    """On images without noise: all patterns are zero and stay so."""
    dataset, attack = make_dataset(), replace(SMALL, steps=4, permute_images=False)
    built: list[Clip] = []

    def surrogate(seed: int) -> Clip:
        built.append(make_clip(seed))
        return built[-1]

    weights = word_weights(dataset.captions)
    patterns = torch.zeros(weights.shape[1], 3 * 4 * 4, requires_grad=True)
    still = torch.optim.SGD([patterns], lr=0.0)
    attack._restart(0, dataset, weights, patterns, still, CraftContext(surrogate, 1, Path()))

    seed = derive_seed(1, "restart", 0)
    model = make_clip(seed)
    table = model.token_table(torch.zeros(1, dtype=torch.long))
    optimizer = make_optimizer(model, attack, betas=(0.9, 0.98))
    table.follow(optimizer)
    for step, (index, tokens) in enumerate(attack._batches(dataset, model, seed)):
        table.admit(tokens, optimizer)
        set_lr(optimizer, schedule(step, 4, Recipe(warmup_share=0.1)))
        images = dataset.batch(index).float() / 255
        optimizer.zero_grad()
        clip_loss(model.encode_images(images), model.encode_tokens(tokens), model.scale).backward()
        optimizer.step()
    for one, other in zip(built[0].parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)


def test_every_pass_over_the_data_has_an_order_of_its_own() -> None:
    batches = list(replace(SMALL, steps=6)._batches(make_dataset(), make_clip(), 1))
    assert len({tuple(index) for index, _ in batches[::2]}) == 3  # of 24 rows a pass has two batches


def test_every_batch_has_phases_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """In all restarts and in the published noise."""
    states, in_random_phase = list[bytes](), WordwiseEm._in_random_phase

    def noted(self: WordwiseEm, noise: torch.Tensor, resolution: int, phases: torch.Generator) -> torch.Tensor:
        states.append(phases.get_state().numpy().tobytes())
        return in_random_phase(self, noise, resolution, phases)

    monkeypatch.setattr(WordwiseEm, "_in_random_phase", noted)
    craft(replace(SMALL, random_phase=True), make_dataset())
    assert len(set(states)) == len(states) == 2 * 3 + 3


def test_patterns_start_from_the_seed_and_move_by_their_rate() -> None:
    attack = replace(SMALL, pattern_lr=1e-9)
    one, other = (noise_of(craft(attack, make_dataset(), seed)) for seed in (1, 2))
    assert (one != other).mean() > 0.3
    assert np.array_equal(noise_of(craft(replace(attack, restarts=3), make_dataset())), one)


def test_patterns_start_as_normal_numbers_with_a_deviation_of_one_half(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else tanh would be steep everywhere, or nowhere."""
    starts: list[torch.Tensor] = []

    def restart(_: WordwiseEm, number: int, train: Any, weights: Any, patterns: torch.Tensor, *__: Any) -> float:
        starts.append(patterns.detach().flatten())
        return 0.0

    monkeypatch.setattr(WordwiseEm, "_restart", restart)
    craft(replace(SMALL, tile=32, restarts=1), make_dataset())
    assert stats.kstest(starts[0].numpy(), stats.norm(0, 0.5).cdf).pvalue > 1e-3
