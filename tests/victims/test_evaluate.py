"""Recalls, and scores of pairs, against features made one by one."""

from typing import Any

import numpy as np
import pytest
import torch

from benchmark.metrics import retrieval
from tests.small import make_clip, make_dataset
from victims.clip import Clip
from victims.evaluate import evaluate, pair_scores


def test_scores_of_pairs_are_cosines_and_an_image_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order that was asked for, with all captions of an image or some of them."""
    data, clip = make_dataset(9, 3), make_clip()
    pairs = data.pairs[np.random.default_rng(1).permutation(len(data.pairs))][:20]
    with torch.no_grad():
        eval_mode = clip.for_inference()
        images = eval_mode.encode_images(torch.from_numpy(data.images[:]))
        texts = torch.cat([eval_mode.encode_tokens(clip.tokenizer([data.captions[i][j]])) for i, j in pairs])
    seen: list[int] = []
    encode = Clip.encode_images

    def counted(self: Clip, pixels: torch.Tensor, *rest: Any) -> torch.Tensor:
        seen.append(len(pixels))
        return encode(self, pixels, *rest)

    monkeypatch.setattr(Clip, "encode_images", counted)
    found = pair_scores(clip, data, pairs)
    np.testing.assert_allclose(
        found, [float(images[i] @ text) for (i, _), text in zip(pairs, texts, strict=True)], atol=1e-5
    )
    assert sum(seen) == len(np.unique(pairs[:, 0]))


def test_scores_are_those_of_features_made_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nine images with three captions each, in batches of which the last is smaller."""
    monkeypatch.setattr("victims.evaluate._BATCH", 4)
    data, clip = make_dataset(9, 3), make_clip()
    frozen = clip.for_inference()
    with torch.no_grad():
        images = torch.cat([frozen.encode_images(torch.from_numpy(image[None])) for image in data.images[:]])
        texts = torch.cat([frozen.encode_tokens(clip.tokenizer([text])) for own in data.captions for text in own])
    similarity, owner = (images @ texts.T).numpy(), np.repeat(np.arange(9), 3)
    of_images = [1 + (row > row[owner == image].max()).sum() for image, row in enumerate(similarity)]
    of_captions = [1 + (row > row[image]).sum() for image, row in zip(owner, similarity.T, strict=True)]
    found = evaluate(clip, data, seed=1)
    assert found.image_to_text.mean_rank == pytest.approx(np.mean(of_images))
    assert found.text_to_image.mean_rank == pytest.approx(np.mean(of_captions))


def test_ties_are_broken_by_the_seed_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """All captions are as near to every image: the order of the ties decides all ranks."""
    monkeypatch.setattr(Clip, "encode_many", lambda _, tokens: torch.zeros(len(tokens), 16))
    data, clip = make_dataset(9, 3), make_clip()
    one, same, other = (evaluate(clip, data, seed) for seed in (1, 1, 2))
    assert one == same != other
    owner = torch.arange(9).repeat_interleave(3)
    assert one == retrieval(torch.zeros(9, 1), torch.zeros(27, 1), owner, seed=1)
