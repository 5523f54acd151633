"""The training loop: what the victim sees, and what it does with it."""

import re
from dataclasses import replace
from functools import cache
from typing import Any, cast

import numpy as np
import pytest
import torch

from benchmark.core.errors import UsageError, VictimDiverged
from benchmark.core.spec import Spec
from benchmark.data import CaptionDataset
from defenses import DEFENSES, Defense, HookContext
from defenses.base import HOOKS, Composed, Loss, LossInputs, Rows, Score
from defenses.clean_fraction import CleanPairs
from tests.small import WORDS, make_clip, make_clip_with_dropout, make_dataset
from victims.clip import Clip
from victims.defense_effect import words_changed
from victims.evaluate import evaluate
from victims.recipe import Recipe
from victims.training import epoch_rows, require_batches, schedule, steps_per_epoch, train

RECIPE = Recipe(epochs=2, batch_size=8, lr=1e-3, rows="images", precision="fp32")


def test_an_epoch_of_pairs_shows_every_pair_once() -> None:
    dataset = make_dataset(10, 4)
    rows = epoch_rows(dataset, "pairs", np.random.default_rng(0))
    assert sorted(map(tuple, rows)) == [(i, j) for i in range(10) for j in range(4)]


def test_an_epoch_of_images_shows_every_image_once_with_any_caption() -> None:
    dataset = make_dataset(200, 4)
    rows = epoch_rows(dataset, "images", np.random.default_rng(0))
    assert sorted(rows[:, 0]) == list(range(200))
    assert not np.array_equal(rows[:, 0], np.sort(rows[:, 0]))
    counts = np.bincount(rows[:, 1], minlength=4)
    assert counts.min() > 25  # 50 expected, standard deviation 6


def test_copies_of_a_photo_share_one_row_of_an_epoch_of_images() -> None:
    rows = epoch_rows(make_dataset(20, 4).by_row(), "images", np.random.default_rng(0))
    assert sorted(rows[:, 0] // 4) == list(range(20))
    assert len(set(rows[:, 0] % 4)) > 1


def test_schedule_warms_up_and_ends_at_zero() -> None:
    recipe = Recipe(warmup_steps=10_000, warmup_share=0.1)
    values = [schedule(step, 1000, recipe) for step in range(1001)]
    assert values[0] == pytest.approx(0.01)
    assert values[99] == pytest.approx(1.0)
    assert values[100] == pytest.approx(1.0)
    assert values[550] == pytest.approx(0.5)
    assert values[1000] == pytest.approx(0.0)
    assert schedule(49, 1000, replace(recipe, warmup_steps=100)) == pytest.approx(0.5)
    assert schedule(0, 19, recipe) == 1  # a tenth of 19 steps is one step, and no more than a tenth may warm up
    longer = replace(recipe, warmup_share=0.3)
    assert [schedule(step, 1000, longer) for step in (149, 299, 650)] == pytest.approx([0.5, 1, 0.5])


def test_dropout_draws_from_the_seed_alone() -> None:
    found = []
    for seed, state in ((1, 5), (1, 6), (2, 5)):
        clip = make_clip_with_dropout()
        torch.manual_seed(state)
        log = train(clip, make_dataset(8, 1), replace(RECIPE, epochs=1), Defense(), seed=seed)
        found.append((log.loss, [p.detach().clone() for p in clip.parameters()]))
    # An epoch of one step: what else the seed decides, the order of the rows, changes no loss.
    assert found[0][0] == found[1][0]
    assert all(torch.equal(a, b) for a, b in zip(found[0][1], found[1][1], strict=True))
    assert abs(found[0][0][0] - found[2][0][0]) > 1e-3


class Witness(Defense):
    """Changes nothing and writes down all it is shown."""

    def __init__(self) -> None:
        self.captions: list[list[str]] = []
        self.images: list[torch.Tensor] = []
        self.seen: list[str] = []
        self.moments: list[float] = []
        self.caption_seeds: list[int] = []
        self.step_seeds: list[int] = []

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        self.captions.append(captions)
        self.caption_seeds.append(at.seed)
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        self.images.append(images)
        self.moments.append(at.progress)
        self.step_seeds.append(at.seed)
        return images


def test_a_clean_start_begins_with_the_clean_pairs_alone() -> None:
    clean, witness = make_dataset(64, 1), Witness()
    published = replace(clean, captions=[[f"odd {text}" for text in own] for own in clean.captions])
    defense = Composed([CleanPairs(share=0.5, first=0.4), witness])
    train(make_clip(), published, RECIPE, defense, seed=0, clean=clean)
    first, second = ([text.startswith("odd ") for text in captions] for captions in witness.captions)
    assert not any(first)
    assert any(second)


def test_a_training_keeps_the_logit_scale_within_its_bound() -> None:
    clip = make_clip()
    with torch.no_grad():
        clip.log_scale.fill_(9.0)
    train(clip, make_dataset(8, 1), replace(RECIPE, epochs=1), Defense(), seed=0)
    assert float(clip.scale.detach()) == pytest.approx(100, rel=1e-5)


def test_images_meet_their_own_captions() -> None:
    dataset = make_dataset(24, 3)
    witness = Witness()
    train(make_clip(), dataset, RECIPE, witness, seed=0)
    assert len(witness.captions) == 2
    assert len(witness.images) == 6
    shown = torch.cat(witness.images[:3])
    for image, caption in zip(shown, witness.captions[0], strict=True):
        index = next(i for i, own in enumerate(dataset.images[:]) if np.array_equal(own, (image * 255).round().byte()))
        assert caption in dataset.captions[index]
    assert witness.moments == pytest.approx([step / 6 for step in range(6)])


class Picky(Witness):
    """Keeps the pairs of the first images, in order, and asks for their scores."""

    def __init__(self, images: int) -> None:
        super().__init__()
        self.most = images
        self.scores: list[np.ndarray] = []

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        kept = rows[rows[:, 0] < self.most]
        self.scores.append(np.stack([kept[:, 0], kept[:, 1], score(kept)], axis=1))
        return kept


def test_pairs_that_a_defense_keeps_are_repeated_to_a_whole_epoch() -> None:
    dataset, picky = make_dataset(24, 3), Picky(10)
    train(make_clip(), dataset, RECIPE, picky, seed=0)
    assert [len(captions) for captions in picky.captions] == [24, 24]
    assert len(picky.images) == 6
    for captions, scores in zip(picky.captions, picky.scores, strict=True):
        kept = [dataset.captions[int(i)][int(j)] for i, j, _ in scores]
        assert captions == [*kept, *kept, *kept][:24]


def test_scores_are_the_victims_cosines_at_that_moment() -> None:
    dataset, picky, clip = make_dataset(24, 3), Picky(10), make_clip()
    start = clip.for_inference()
    train(clip, dataset, RECIPE, picky, seed=0)
    for image, caption, score in picky.scores[0]:
        pixels = torch.from_numpy(dataset.images[int(image)][None])
        words = clip.tokenizer([dataset.captions[int(image)][int(caption)]])
        with torch.no_grad():
            expected = float(start.encode_images(pixels)[0] @ start.encode_tokens(words)[0])
        assert score == pytest.approx(expected, abs=1e-4)
    first, second = ({(i, j): s for i, j, s in scores} for scores in picky.scores)
    assert any(abs(first[pair] - second[pair]) > 1e-3 for pair in first.keys() & second.keys())


class Greedy(Defense):
    """Keeps so many pairs, each so many times."""

    def __init__(self, pairs: int, times: int = 1) -> None:
        self.pairs, self.times = pairs, times

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        return rows[: self.pairs].repeat(self.times, axis=0)


@pytest.mark.parametrize(("pairs", "times", "said"), [(0, 1, "none"), (7, 1, "7"), (7, 3, "7")])
def test_a_defense_that_leaves_less_than_a_batch_is_refused(pairs: int, times: int, said: str) -> None:
    """Else a pair would stand in a batch twice, as a negative of itself."""
    with pytest.raises(UsageError, match=f"leaves {said} of 24 pairs, and a batch has 8"):
        train(make_clip(), make_dataset(24, 3), RECIPE, Greedy(pairs, times), seed=0)


class Late(Greedy):
    """Keeps all pairs but in the third epoch, and notes what it is asked."""

    def __init__(self, pairs: int) -> None:
        super().__init__(pairs)
        self.asked: list[tuple[Any, HookContext]] = []

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        self.asked.append((rows.tolist(), at))
        return super().on_rows(rows, score, at) if at.epoch == 3 else rows


def test_a_defense_chooses_pairs_before_a_training_as_it_will_in_every_epoch_of_it() -> None:
    dataset, recipe, before, within = make_dataset(24, 3), replace(RECIPE, epochs=4), Late(8), Late(8)
    require_batches(dataset, recipe, before, seed=5)
    train(make_clip(), dataset, recipe, within, seed=5)
    assert [at.epoch for _, at in before.asked] == [1, 2, 3, 4]
    assert before.asked == within.asked
    with pytest.raises(UsageError, match="leaves 7 of 24 pairs, and a batch has 8"):
        require_batches(dataset, recipe, Late(7), seed=5)


class Careless(Defense):
    """Returns something of another kind than it was given."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        if self.fault == "data short":
            return replace(train, images=train.images[1:], captions=train.captions[1:])
        return cast(CaptionDataset, None) if self.fault == "no data" else train

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        kept = {
            "no pairs": None,
            "a mask": rows[:, 0] >= 0,
            "floats": rows.astype(float),
            "row numbers": rows[:, 0],
        }
        return cast(Rows, kept.get(self.fault, rows))

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        text, numbers = cast(list[str], "x" * len(captions)), cast(list[str], [1] * len(captions))
        return {"a caption short": captions[1:], "a text": text, "numbers": numbers}.get(self.fault, captions)

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        grey, none = images[:, :1], cast(torch.Tensor, None)
        return {"grey": grey, "nothing": none, "bytes": images.byte()}.get(self.fault, images)

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.fault == "images alone":
            return cast(Any, images)
        return images, targets[0] if self.fault == "one target" else targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        return images[1:] if self.fault == "an image short" else images

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        loss = super().loss(batch, at)
        each = {"no loss": None, "a number": 1.0, "no gradient": loss.detach(), "a loss each": loss * torch.ones(8)}
        return cast(torch.Tensor, each.get(self.fault, loss))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no data", "on_dataset returns no CaptionDataset, but NoneType"),
        ("no pairs", "on_rows returns no array (R, 2) of integers, but NoneType"),
        ("a mask", "on_rows returns no array (R, 2) of integers, but bool (24,)"),
        ("floats", "on_rows returns no array (R, 2) of integers, but float64 (24, 2)"),
        ("row numbers", "on_rows returns no array (R, 2) of integers, but int64 (24,)"),
        ("images alone", "on_batch returns no images with their targets, but Tensor"),
        ("no loss", "loss returns no scalar tensor with a gradient, but NoneType"),
        ("a number", "loss returns no scalar tensor with a gradient, but float"),
        ("no gradient", "loss returns no scalar tensor with a gradient, but a tensor ()"),
        ("a loss each", "loss returns no scalar tensor with a gradient, but a tensor (8,)"),
        ("data short", "on_dataset returns 23 images with 23 captions for 24 with 24"),
        ("a caption short", "on_captions returns 23 captions for 24"),
        ("a text", "on_captions returns no list of texts, but str"),
        ("numbers", "on_captions returns int among its texts"),
        ("grey", "on_images returns (8, 1, 32, 32) for (8, 3, 32, 32)"),
        ("nothing", "on_images returns no tensor of floats, but NoneType"),
        ("bytes", "on_images returns no tensor of floats, but torch.uint8"),
        ("one target", "on_batch returns (8,) for (8, 8)"),
        ("an image short", "adversarial returns (7, 3, 32, 32) for (8, 3, 32, 32)"),
    ],
)
def test_a_hook_that_returns_something_else_than_it_was_given_is_refused(fault: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        train(make_clip(), make_dataset(24, 1), RECIPE, Careless(fault), seed=0)


class Told(Defense):
    """Notes which images it is told to be copies of one photo."""

    def __init__(self) -> None:
        self.photos: list[list[int]] = []

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        self.photos.append([] if at.photo is None else at.photo.tolist())
        return rows


def test_a_defense_that_chooses_pairs_is_told_which_images_are_copies() -> None:
    data, told = make_dataset(8, 3).by_row(), Told()
    train(make_clip(), data, replace(RECIPE, epochs=1, batch_size=8), told, seed=0)
    assert told.photos == [np.repeat(np.arange(8), 3).tolist()]


class Double(Defense):
    """Twice CLIP's loss."""

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        return 2 * batch.contrast(batch.encode_images(batch.images), batch.encode_tokens(batch.tokens))


def test_a_defenses_loss_is_what_is_descended() -> None:
    once, twice = (
        train(make_clip(), make_dataset(8, 1), replace(RECIPE, epochs=1), defense, seed=0).loss
        for defense in (Defense(), Double())
    )
    assert twice[0] == pytest.approx(2 * once[0], rel=1e-3)


class Swapped(Defense):
    """Trains on the clean data in place of the published."""

    needs_clean = True

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        return clean


def test_a_defense_may_train_on_other_data_and_what_it_changes_is_measured() -> None:
    clean = make_dataset(24, 3)
    poisoned = replace(
        clean, images=np.asarray(clean.images[:] // 2), captions=[["x " + t for t in own] for own in clean.captions]
    )
    witness = Witness()
    expected = train(make_clip(), clean, RECIPE, witness, seed=0)
    log = train(make_clip(), poisoned, RECIPE, Swapped(), seed=0, clean=clean)
    assert log.loss == expected.loss
    assert log.changes.words_per_caption == 1
    change = torch.cat(witness.images) * 255 - torch.cat(witness.images).mul(255).div(2).floor()
    assert log.changes.pixel == pytest.approx(float(change.mean()), rel=0.01)


def test_clean_data_have_a_row_for_each_pair_where_the_published_have() -> None:
    clean, recipe = make_dataset(8, 2), replace(RECIPE, epochs=1)
    published = replace(clean, images=np.asarray(255 - clean.images[:])).by_row()
    expected = train(make_clip(), clean.by_row(), recipe, Defense(), seed=0)
    assert train(make_clip(), published, recipe, Swapped(), seed=0, clean=clean).loss == expected.loss


def test_pairs_left_out_and_the_change_of_a_loss_are_measured() -> None:
    """A quarter of the pairs in one epoch of two; one nat more in the first half of the training, one less after."""

    class Picky(Defense):
        def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
            return rows[: len(rows) * 3 // 4] if at.epoch == 2 else rows

        def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
            return super().loss(batch, at) + (1 if at.progress < 0.5 else -1)

    recipe = replace(RECIPE, epochs=2, batch_size=8)
    for defense in (Picky(), Composed([Picky()])):
        changes = train(make_clip(), make_dataset(24, 1), recipe, defense, seed=0).changes.summary()
        assert changes == {"words_per_caption": 0, "pixel": 0, "loss": pytest.approx(1), "pairs_left_out": 12.5}
    assert set(train(make_clip(), make_dataset(), recipe, Defense(), seed=0).changes.summary().values()) == {0}


@pytest.mark.parametrize("by_row", [False, True])
def test_a_defense_is_told_which_captions_describe_one_photo(by_row: bool) -> None:
    dataset = make_dataset(8, 3)
    owner = {caption: photo for photo, own in enumerate(dataset.captions) for caption in own}
    assert len(owner) == 24
    told: list[dict[str, int]] = []

    class Told(Defense):
        def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
            return rows[::-1]

        def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
            assert at.caption_photos is not None
            told.append(dict(zip(captions, at.caption_photos.tolist(), strict=True)))
            return captions

    train(make_clip(), dataset.by_row() if by_row else dataset, replace(RECIPE, rows="pairs"), Told(), seed=0)
    assert told == [owner, owner]


def test_defenses_draw_anew_every_epoch_and_every_step() -> None:
    one, same, other = Witness(), Witness(), Witness()
    for witness, seed in ((one, 0), (same, 0), (other, 1)):
        train(make_clip(), make_dataset(), RECIPE, witness, seed=seed)
    seeds = one.caption_seeds + one.step_seeds
    assert len(set(seeds)) == len(seeds) == 2 + 6
    assert same.caption_seeds + same.step_seeds == seeds
    assert not set(seeds) & set(other.caption_seeds + other.step_seeds)


def test_training_is_repeatable_and_moved_by_the_seed() -> None:
    def loss(seed: int) -> list[float]:
        return train(make_clip(), make_dataset(), RECIPE, Defense(), seed=seed).loss

    assert loss(1) == loss(1)
    assert loss(1) != loss(2)


def test_a_victim_learns_what_can_be_learned() -> None:
    # Sixteen plain images with one word each: far above chance after a while.
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (16, 3, 1, 1), dtype=np.uint8)
    data = make_dataset(16, 1)
    images = np.broadcast_to(colours, (16, 3, 32, 32)).copy()
    data = replace(data, images=images, captions=[[f"{word}"] for word in (*WORDS, "fox", "bird", "tent", "key")])
    clip = make_clip()
    log = train(clip, data, replace(RECIPE, epochs=60, batch_size=16), Defense(), seed=0)
    assert log.loss[0] > 2.4
    assert log.loss[-1] < 0.5 * log.loss[0]
    assert evaluate(clip, data, seed=0).image_to_text.recall_at_1 > 60


class Nudge(Defense):
    """Uses one hook."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        return ["moon"] * len(captions) if self.hook == "captions" else captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return images / 2 if self.hook == "images" else images

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return images, targets.roll(1, dims=0) if self.hook == "batch" else targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        if self.hook != "adversarial":
            return images
        point = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point), point)
        return (images + 0.1 * gradient.sign()).clamp(0, 1)


class Looks(Defense):
    """Climbs the loss as adversarial training does, and trains on the images as they were."""

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        point = images.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point), point)
        assert gradient.abs().max() > 0
        return images


def test_looking_at_the_loss_leaves_no_trace_in_the_victim() -> None:
    """Neither in its weights nor in the statistics of its batch norms."""
    plain, looked_at = make_clip(), make_clip()
    for clip, defense in ((plain, Defense()), (looked_at, Looks())):
        train(clip, make_dataset(), RECIPE, defense, seed=0)
    expected, found = plain.state_dict(), looked_at.state_dict()
    assert any("num_batches_tracked" in name for name in expected)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_every_hook_reaches_the_loss() -> None:
    def first_loss(hook: str) -> float:
        recipe = replace(RECIPE, epochs=1, batch_size=24)
        log = train(make_clip(), make_dataset(), recipe, Nudge(hook), seed=0)
        assert (log.changes.pixel > 5) == (hook in ("images", "adversarial"))
        assert (log.changes.words_per_caption > 2) == (hook == "captions")
        return log.loss[0]

    plain = first_loss("none")
    assert first_loss("captions") != plain
    assert first_loss("images") != plain
    assert abs(first_loss("batch") - plain) > 0.1
    assert first_loss("adversarial") > plain + 0.1


@cache
def undefended(shared: str) -> tuple[CaptionDataset, CaptionDataset, Clip]:
    """Clean data, what is published of them with words before each caption, and a victim that trained on the latter."""
    clean = make_dataset(24, 2).by_row()
    captions = [[f"{shared}{caption}" for caption in own] for own in clean.captions]
    published = replace(clean, images=255 - np.asarray(clean.images[:]), captions=captions)
    model = make_clip()
    train(model, published, RECIPE, Defense(), seed=0, clean=clean)
    return clean, published, model


@pytest.mark.parametrize("name", DEFENSES.group("all"))
def test_no_defense_is_silently_nothing_in_training(name: str) -> None:
    """The victim differs, and what the defense changes is measured."""
    # It looks for words that many captions share; each of the others finds something in any caption.
    clean, published, plain = undefended("odd violin " if name == "repeated-prefix" else "")
    defense, model = DEFENSES.build(Spec(name)), make_clip()
    log = train(model, published, RECIPE, defense, seed=0, clean=clean)
    same = all(torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))
    assert same == (name == "none")
    least = {"pixel": 0.5, "words_per_caption": 0.15, "loss": 0.01, "pairs_left_out": 1}
    changed = [what for what, size in log.changes.summary().items() if size > least[what]]
    assert bool(changed) == (name != "none")


def test_words_changed_by_hand() -> None:
    assert words_changed("a red dog", "a red dog") == 0
    assert words_changed("a red dog", "red dog") == 1
    assert words_changed("a red dog", "a blue dog") == 1
    assert words_changed("a red dog", "a red big dog") == 1
    assert words_changed("a red dog", "moon") == 3
    # Of long captions their beginning is compared, or this would take minutes.
    assert words_changed("a dog " * 50_000, "one " + "a dog " * 50_000) in (1, 2)


def test_too_few_rows_for_a_batch() -> None:
    with pytest.raises(UsageError, match="fewer than one batch"):
        steps_per_epoch(make_dataset(7), RECIPE)
    assert steps_per_epoch(make_dataset(7, 3), replace(RECIPE, rows="pairs")) == 2


def test_divergence_is_an_error_not_a_score() -> None:
    clip = make_clip()
    with torch.no_grad():
        clip.model.get_parameter("visual.conv1.weight").fill_(float("nan"))
    with pytest.raises(VictimDiverged):
        train(clip, make_dataset(), RECIPE, Defense(), seed=0)


class Blind(Defense):
    """A finite loss, whatever the towers compute."""

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        return torch.nan_to_num(batch.image_features, 0.0).sum() + batch.text_features.sum()


def test_weights_that_are_no_numbers_are_an_error_where_the_loss_is_finite() -> None:
    """As where a ReLU in bf16 turns NaN into 0."""
    clip = make_clip()
    with torch.no_grad():
        clip.model.get_parameter("visual.conv1.weight").fill_(float("nan"))
    with pytest.raises(VictimDiverged, match="holds NaN after epoch 1"):
        train(clip, make_dataset(), RECIPE, Blind(), seed=0)


def test_evaluation_leaves_the_model_as_it_was() -> None:
    clip = make_clip().train()
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    scores = evaluate(clip, make_dataset(), seed=1)
    assert clip.training
    assert all(torch.equal(value, before[name]) for name, value in clip.state_dict().items())
    assert scores == evaluate(clip, make_dataset(), seed=1)


def test_recipes_out_of_range() -> None:
    with pytest.raises(UsageError, match="epochs"):
        Recipe(epochs=0)


class Dims(Defense):
    """Halves pixels from a moment on."""

    def __init__(self, start: float) -> None:
        self.start = start

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return images / 2 if at.progress >= self.start else images


def test_steps_that_a_defense_leaves_alone_count_in_what_it_changes() -> None:
    always, late = (
        train(make_clip(), make_dataset(24, 1), RECIPE, Dims(start), seed=0).changes.pixel for start in (0.0, 0.5)
    )
    assert late == pytest.approx(always / 2, rel=1e-3)


class Rolled(Defense):
    """Moves the targets, and notes the loss that it could climb."""

    seen = 0.0

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return images, targets.roll(1, dims=0)

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        self.seen = float(loss(images))
        return images


def test_the_loss_that_a_defense_climbs_is_that_of_the_mixed_targets() -> None:
    rolled = Rolled()
    log = train(make_clip(), make_dataset(8, 1), replace(RECIPE, epochs=1), rolled, seed=0)
    assert rolled.seen == pytest.approx(log.loss[0], rel=1e-4)


def test_dropout_draws_anew_at_every_step() -> None:
    drawn: list[float] = []

    class Draws(Defense):
        def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
            drawn.append(float(torch.rand(())))  # from the global state, as dropout does
            return images

    train(make_clip(), make_dataset(24, 1), RECIPE, Draws(), seed=0)
    assert len(set(drawn)) == len(drawn) == 6


class Lasting(Defense):
    """Notes in every hook the seed of choices that last."""

    needs_clean = True

    def __init__(self) -> None:
        self.seeds: dict[str, set[int]] = {}

    def _note(self, hook: str, at: HookContext) -> None:
        self.seeds.setdefault(hook, set()).add(at.training)

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        self._note("on_dataset", at)
        return train

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        self._note("on_rows", at)
        return rows

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        self._note("on_captions", at)
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        self._note("on_images", at)
        return images

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self._note("on_batch", at)
        return images, targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        self._note("adversarial", at)
        return images

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        self._note("loss", at)
        return super().loss(batch, at)


def test_all_hooks_of_a_training_share_one_lasting_seed() -> None:
    found = []
    for seed in (0, 0, 1):
        defense = Lasting()
        train(make_clip(), make_dataset(16, 1), RECIPE, defense, seed=seed)
        assert list(defense.seeds) == list(HOOKS)
        (lasting,) = set.union(*defense.seeds.values())
        found.append(lasting)
    assert found[0] == found[1] != found[2]
