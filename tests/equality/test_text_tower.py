"""Many captions at once, and the embeddings of the tokens that occur."""

from typing import Any

import pytest
import torch
from torch import nn

import victims.clip
from tests.small import small_clip
from victims.clip import Clip
from victims.fast.embedding import ActiveEmbedding

CAPTIONS = ["sun", "a red dog and one more dog", "moon", "two cats", "the old house by the green tree " * 3]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return Clip(small_clip(), torch.device("cpu"), "fp32")


@pytest.mark.parametrize("at_once", [2, 3, 100])
def test_sorting_by_length_changes_no_feature_and_no_gradient(
    clip: Clip, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(victims.clip._CAPTIONS_AT_ONCE, "cpu", at_once)
    tokens = clip.tokenizer(CAPTIONS)
    given = clip.token_embedding[tokens].detach().requires_grad_()
    found = clip.encode_many(tokens, given)
    alone = [clip.encode_tokens(clip.tokenizer([caption]))[0] for caption in CAPTIONS]
    torch.testing.assert_close(found, torch.stack(alone), rtol=0, atol=1e-12)
    torch.testing.assert_close(clip.encode_many(tokens), found, rtol=0, atol=0)
    weight = torch.randn(len(CAPTIONS), 16, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * weight).sum(), given)
    twin = given.detach().clone().requires_grad_()
    (expected,) = torch.autograd.grad((clip.encode_tokens(tokens, twin) * weight).sum(), twin)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


class Tower(nn.Module):
    """A table of 50 tokens and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(50, 4, dtype=torch.float64)
        nn.init.normal_(self.token_embedding.weight, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("fused", [False, True])
def test_training_the_tokens_that_occur_equals_training_all(fused: bool) -> None:
    batches = [torch.tensor(ids) for ids in ([3, 7, 7], [3, 9], [0, 48], [7, 20, 21], [9, 3], [20, 20])]
    admitted = [batches[0], torch.cat(batches[:2]), torch.cat(batches[2:4]), batches[3], batches[4], batches[5]]
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.3, "fused": fused}

    def weights(active: bool) -> torch.Tensor:
        tower = Tower()
        table = ActiveEmbedding.put_into(tower, batches[0]) if active else None
        optimizer = torch.optim.AdamW(tower.parameters(), **settings)
        if table is not None:
            table.follow(optimizer)
        for step, (ids, more) in enumerate(zip(batches, admitted, strict=True)):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            if table is not None:
                table.admit(more, optimizer)
            optimizer.zero_grad()
            (tower.token_embedding(ids) * torch.arange(1.0, 5.0)).sin().sum().backward()
            optimizer.step()
        if table is not None:
            table.take_out(tower)
        assert isinstance(tower.token_embedding, nn.Embedding)
        assert tower.token_embedding.weight.requires_grad
        return tower.token_embedding.weight.detach()

    found, expected = weights(True), weights(False)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert not torch.equal(expected[1], Tower().token_embedding.weight[1])  # tokens that never occur decay


def test_a_token_that_was_not_admitted_is_an_error() -> None:
    tower = Tower()
    ActiveEmbedding.put_into(tower, torch.tensor([3]))
    with pytest.raises(IndexError):
        tower.token_embedding(torch.tensor([4]))
