"""SafeCLIP: which pairs are safe, and what each kind of pair learns from."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm

from defenses.base import Defense, HookContext, LossInputs
from defenses.cleanclip import CleanClip
from defenses.safeclip import SafeClip, in_higher_component
from tests.defenses.test_training_defenses import AT, SCALE, batch_of, plain_loss


def test_pairs_are_told_apart_as_by_the_gaussians_that_they_were_drawn_from() -> None:
    rng = np.random.default_rng(0)
    safe = rng.random(4000) < 0.3
    values = np.where(safe, rng.normal(0.5, 0.06, 4000), rng.normal(0.1, 0.12, 4000))
    found = in_higher_component(torch.from_numpy(values)).numpy()
    high, low = 0.3 * norm.pdf(values, 0.5, 0.06), 0.7 * norm.pdf(values, 0.1, 0.12)
    assert np.abs(found - high / (high + low)).max() < 0.06
    assert (safe[found >= 0.9]).mean() > 0.98


def test_values_that_are_all_equal_are_in_neither() -> None:
    assert in_higher_component(torch.full((5,), 0.3)).tolist() == [0.5] * 5


def test_the_higher_component_is_found_on_either_side_of_the_median() -> None:
    for above in (2, 8):
        values = torch.cat([torch.linspace(0.0, 0.02, 10 - above), torch.linspace(0.8, 0.82, above)])
        assert (in_higher_component(values) > 0.9).sum() == above


def vectors(*angles: float) -> torch.Tensor:
    """(N, 3) unit vectors in a plane, at angles in degrees."""
    radians = torch.deg2rad(torch.tensor(angles))
    return torch.stack([radians.cos(), radians.sin(), torch.zeros(len(angles))], dim=1)


# Four pairs agree to a degree or two, three are at right angles or worse.
TEXTS = vectors(0, 20, 45, 70, 90, 10, 30)
IMAGES = vectors(1, 22, 44, 71, 185, 100, 125)
WHOLE = SafeClip(smallest=1.0, p=0.0)  # crops of the whole image, mirrored or not, and no token is left out


def copies_of(features: torch.Tensor, degrees: float) -> torch.Tensor:
    """The features turned."""
    turn = torch.tensor(degrees).deg2rad()
    matrix = torch.tensor([[turn.cos(), -turn.sin(), 0], [turn.sin(), turn.cos(), 0], [0, 0, 1]])
    return features @ matrix.T


def batch_and_copies() -> tuple[LossInputs, torch.Tensor, torch.Tensor]:
    """A batch whose augmented images and captions have the features that are given beside it."""
    images, texts = copies_of(IMAGES, 5), copies_of(TEXTS, 9)
    batch = batch_of(
        torch.rand(7, 3, 4, 4),
        TEXTS,
        image_features=IMAGES,
        encode_images=lambda some: images,
        encode_tokens=lambda some: texts,
    )
    return batch, images, texts


def test_safe_pairs_take_clips_loss_and_the_others_learn_apart() -> None:
    batch, images, texts = batch_and_copies()
    safe, risky = slice(0, 4), slice(4, 7)
    apart = plain_loss(IMAGES[risky].numpy(), images[risky].numpy())
    apart += plain_loss(TEXTS[risky].numpy(), texts[risky].numpy())
    expected = 4 / 7 * plain_loss(IMAGES[safe].numpy(), TEXTS[safe].numpy()) + 3 / 7 * apart
    assert float(WHOLE.loss(batch, AT)) == pytest.approx(expected, rel=1e-4)


def test_of_a_mixed_images_target_the_share_of_safe_captions_counts() -> None:
    batch, *_ = batch_and_copies()
    mixed = torch.eye(7)
    mixed[0, 0], mixed[0, 4] = 0.25, 0.75  # the fifth caption is not safe
    logits = SCALE * IMAGES[:4] @ batch.text_features[:4].T
    rows, columns = logits.log_softmax(dim=1)[0, 0], logits.log_softmax(dim=0)[0, 0]
    # Both lose 0.75 of the first pair's loss, as means of four rows and four columns.
    expected = WHOLE.loss(batch, AT) + 4 / 7 * 0.75 * (rows + columns) / 2 / 4
    assert float(WHOLE.loss(replace(batch, targets=mixed), AT)) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("apart", [0.16, 0.4])
def test_at_first_modalities_learn_apart_and_hardly_from_each_other(apart: float) -> None:
    batch, images, texts = batch_and_copies()
    expected = plain_loss(IMAGES.numpy(), images.numpy()) + plain_loss(TEXTS.numpy(), texts.numpy())
    expected += 0.01 * plain_loss(IMAGES.numpy(), TEXTS.numpy())
    early, defense = HookContext(seed=5, progress=apart - 0.01, epoch=1), replace(WHOLE, apart=apart)
    assert float(defense.loss(batch, early)) == pytest.approx(expected, rel=1e-4)
    assert float(defense.loss(batch, replace(early, progress=apart))) != pytest.approx(expected, rel=1e-2)


def test_a_batch_of_alike_pairs_has_no_safe_one() -> None:
    batch = batch_of(torch.rand(7, 3, 4, 4), TEXTS, image_features=TEXTS)
    features = batch.encode_images(batch.images).numpy()
    expected = plain_loss(TEXTS.numpy(), features) + plain_loss(TEXTS.numpy(), TEXTS.numpy())
    assert float(WHOLE.loss(batch, AT)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("defense", "progress"),
    [(WHOLE, 0.1), (WHOLE, 0.5), (CleanClip(smallest=1.0, p=0.0), 0.5)],
    ids=["SafeCLIP at first", "SafeCLIP", "CleanCLIP"],
)
def test_images_captions_and_their_copies_all_learn(defense: Defense, progress: float) -> None:
    """The loss moves as its gradient says where any of the four is moved."""
    batch, copies, shorter = batch_and_copies()

    def loss(images: torch.Tensor, texts: torch.Tensor, copies: torch.Tensor, shorter: torch.Tensor) -> torch.Tensor:
        own = replace(batch, image_features=images, text_features=texts, targets=batch.targets.double())
        own = replace(own, encode_images=lambda _: copies, encode_tokens=lambda _: shorter)
        return defense.loss(own, replace(AT, progress=progress))

    four = [each.double().requires_grad_() for each in (IMAGES, TEXTS, copies, shorter)]
    assert torch.autograd.gradcheck(loss, four)


def test_the_probability_decides_which_pairs_are_safe() -> None:
    """Cosines that overlap: some pairs are safe with a probability of a half and not of 99.9 %."""
    rng = np.random.default_rng(0)
    angles = np.concatenate([rng.normal(30, 12, 20), rng.normal(70, 12, 20)])
    batch = batch_of(torch.rand(40, 3, 4, 4), vectors(*[0] * 40), image_features=vectors(*angles.tolist()))
    likely = in_higher_component((batch.image_features * batch.text_features).sum(dim=1))
    assert (likely >= 0.5).sum() > (likely >= 0.9).sum() > (likely >= 0.999).sum()
    assert len({float(replace(WHOLE, sure=sure).loss(batch, AT)) for sure in (0.5, 0.9, 0.999)}) == 3
