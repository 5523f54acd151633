"""HotFlip: exact pair losses, exact gradients, and a brute-force search as oracle."""

import torch
import torch.nn.functional as F

from attacks.hotflip import _linearised, hotflip, own_pair_losses
from tests.small import WORDS, make_clip
from victims.clip import Clip
from victims.tokens import insert_trigger


def made(rows: int = 6, k: int = 2) -> tuple[Clip, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    clip = make_clip(dtype=torch.float64).for_inference()
    generator = torch.Generator().manual_seed(4)
    features = F.normalize(torch.randn(rows, 16, generator=generator, dtype=torch.float64), dim=-1)
    tokens = clip.tokenizer([f"{WORDS[i]} and {WORDS[-i]}" + " too" * (i % 3) for i in range(rows)])
    vocabulary = torch.tensor([clip.tokenizer.encode(word)[0] for word in WORDS])
    trigger = vocabulary[torch.randint(len(WORDS), (rows, k), generator=generator)]
    return clip, features, tokens, trigger, vocabulary


def plain_pair_loss(clip: Clip, features: torch.Tensor, tokens: torch.Tensor, trigger: torch.Tensor, row: int) -> float:
    """Cross-entropy of row i plus column i, from the whole matrix of logits of the batch as it stands."""
    logits = clip.scale * features @ clip.encode_tokens(insert_trigger(tokens, trigger, 77)).T
    return float(logits[row].logsumexp(0) + logits[:, row].logsumexp(0) - 2 * logits[row, row])


def features_of(clip: Clip, tokens: torch.Tensor, trigger: torch.Tensor) -> torch.Tensor:
    return clip.encode_tokens(insert_trigger(tokens, trigger, 77))


def test_pair_losses_of_candidates_hold_the_other_pairs_fixed() -> None:
    clip, features, tokens, trigger, vocabulary = made()
    candidates = [vocabulary[torch.randint(len(WORDS), trigger.shape)] for _ in range(3)]
    theirs = torch.stack([features_of(clip, tokens, candidate) for candidate in candidates], dim=1)
    found = own_pair_losses(features, features_of(clip, tokens, trigger), theirs, clip.scale)
    for row in range(len(tokens)):
        for number, candidate in enumerate(candidates):
            changed = trigger.clone()
            changed[row] = candidate[row]
            expected = plain_pair_loss(clip, features, tokens, changed, row)
            assert abs(float(found[row, number]) - expected) < 1e-9


def test_gradient_is_that_of_the_pairs_own_loss() -> None:
    clip, features, tokens, trigger, _ = made()
    text, losses, gradient = _linearised(clip, features, tokens, trigger, torch.zeros_like(trigger), position=1)
    torch.testing.assert_close(text, features_of(clip, tokens, trigger))
    full = insert_trigger(tokens, trigger, 77)
    step = 1e-6
    for row in (0, 3):
        direction = torch.randn(32, dtype=torch.float64, generator=torch.Generator().manual_seed(row))
        values = []
        for sign in (1, -1):
            embeddings = clip.token_embedding[full].clone()
            embeddings[row, 2] += sign * step * direction  # position 1 of the trigger follows the start token
            logits = clip.scale * features @ clip.encode_tokens(full, embeddings).T
            values.append(logits[row].logsumexp(0) + logits[:, row].logsumexp(0) - 2 * logits[row, row])
        assert abs(float((values[0] - values[1]) / (2 * step) - gradient[row] @ direction)) < 1e-5
        assert abs(float(losses[row]) - plain_pair_loss(clip, features, tokens, trigger, row)) < 1e-9


def test_equals_a_brute_force_search_when_all_words_are_candidates() -> None:
    clip, features, tokens, trigger, vocabulary = made()
    found = hotflip(clip, features, tokens, trigger, vocabulary, candidates=len(vocabulary))
    expected = trigger.clone()
    for position in range(2):
        best = expected.clone()
        for row in range(len(tokens)):
            losses: dict[int, float] = {}
            for word in [int(expected[row, position]), *vocabulary.tolist()]:
                tried = expected.clone()
                tried[row, position] = word
                losses.setdefault(word, plain_pair_loss(clip, features, tokens, tried, row))
            best[row, position] = min(losses, key=losses.__getitem__)
        expected = best
    assert torch.equal(found, expected)
    assert not torch.equal(found, trigger)


def test_no_pair_gets_worse_at_a_position_and_the_argument_stays() -> None:
    clip, features, tokens, trigger, vocabulary = made(k=1)
    before = trigger.clone()
    found = hotflip(clip, features, tokens, trigger, vocabulary, candidates=3)
    assert torch.equal(trigger, before)
    text = features_of(clip, tokens, trigger)
    old = own_pair_losses(features, text, text[:, None], clip.scale)
    new = own_pair_losses(features, text, features_of(clip, tokens, found)[:, None], clip.scale)
    assert (new <= old + 1e-12).all()
    assert (new < old - 1e-6).any()
