"""Recall and ranks: hand-worked cases, torchmetrics as oracle, a slow plain version, chance."""

import numpy as np
import pytest
import torch
from torchmetrics.retrieval import RetrievalHitRate

from benchmark.core.errors import VictimDiverged
from benchmark.metrics import best_ranks, retrieval, scores


def random_features(images: int, per_image: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(images, 24, generator=generator)
    owner = torch.arange(images).repeat_interleave(per_image)
    text = image[owner] + 2.5 * torch.randn(len(owner), 24, generator=generator)
    norm = torch.nn.functional.normalize
    return norm(image, dim=-1), norm(text, dim=-1), owner


def test_hand_worked_ranks() -> None:
    # Two images on the axes; captions 0, 1 belong to image 0 and captions 2, 3 to image 1.
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    captions = torch.tensor([[0.6, 0.8], [0.8, 0.6], [0.9, 0.4], [0.5, 0.85]])
    owner = torch.tensor([0, 0, 1, 1])
    # Image 0 sees 0.6, 0.8, 0.9, 0.5: its best own is 0.8, second. Image 1 sees 0.8, 0.6, 0.4, 0.85: first.
    assert best_ranks(images, captions, torch.arange(2), owner, 0).tolist() == [2, 1]
    # Captions 0, 2 are nearer to the other image; captions 1, 3 to their own.
    assert best_ranks(captions, images, owner, torch.arange(2), 0).tolist() == [2, 1, 2, 1]


def test_hand_worked_scores() -> None:
    found = scores(torch.tensor([1, 4, 6, 11]))
    assert (found.recall_at_1, found.recall_at_5, found.recall_at_10) == (25.0, 50.0, 75.0)
    assert (found.median_rank, found.mean_rank) == (5.0, 5.5)


@pytest.mark.parametrize("k", [1, 5, 10])
def test_recall_agrees_with_torchmetrics(k: int) -> None:
    images, captions, owner = random_features(60, 5, seed=3)
    found = retrieval(images, captions, owner, seed=0)
    own = owner[None, :] == torch.arange(60)[:, None]
    similarity = images @ captions.T
    queries = torch.arange(60)[:, None].expand_as(similarity)
    oracle = RetrievalHitRate(top_k=k)(similarity.flatten(), own.flatten(), queries.flatten())
    assert getattr(found.image_to_text, f"recall_at_{k}") == pytest.approx(100 * float(oracle), abs=1e-4)
    queries = torch.arange(300)[:, None].expand_as(similarity.T)
    oracle = RetrievalHitRate(top_k=k)(similarity.T.flatten(), own.T.flatten(), queries.flatten())
    assert getattr(found.text_to_image, f"recall_at_{k}") == pytest.approx(100 * float(oracle), abs=1e-4)


def test_ranks_agree_with_sorting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.metrics._CELLS_AT_ONCE", 700)  # several chunks, the last one smaller
    images, captions, owner = random_features(31, 4, seed=5)
    similarity = (images @ captions.T).numpy()
    expected = []
    for image in range(31):
        order = np.argsort(-similarity[image])
        expected.append(1 + min(place for place, caption in enumerate(order) if owner[caption] == image))
    assert best_ranks(images, captions, torch.arange(31), owner, 0).tolist() == expected


@pytest.mark.parametrize("kind", ["random", "constant", "two values"])
def test_uninformative_embeddings_score_at_chance(kind: str) -> None:
    # Chance at N = 1000 with five captions each: R@10 = 1 % both ways, Medr about 647 and 500.
    generator = torch.Generator().manual_seed(1)
    owner = torch.arange(1000).repeat_interleave(5)
    shape = {"random": torch.randn, "constant": torch.ones}
    if kind == "two values":
        images = torch.randint(2, (1000, 1), generator=generator).float() + 1
        captions = torch.randint(2, (5000, 1), generator=generator).float() + 1
    elif kind == "random":
        images = torch.randn(1000, 16, generator=generator)
        captions = torch.randn(5000, 16, generator=generator)
    else:
        images, captions = shape[kind](1000, 4), shape[kind](5000, 4)
    found = retrieval(images, captions, owner, seed=2)
    assert found.image_to_text.recall_at_10 == pytest.approx(1.0, abs=0.95)
    assert found.text_to_image.recall_at_10 == pytest.approx(1.0, abs=0.6)
    if kind != "two values":  # there, the larger value is ranked first whatever the query
        assert found.image_to_text.median_rank == pytest.approx(647, abs=60)
    assert found.text_to_image.median_rank == pytest.approx(500, abs=40)


def test_ties_are_broken_by_the_seed_alone() -> None:
    owner = torch.arange(50).repeat_interleave(5)
    same = [retrieval(torch.ones(50, 2), torch.ones(250, 2), owner, seed=seed) for seed in (4, 4, 5)]
    assert same[0] == same[1]
    assert same[0] != same[2]


def test_embeddings_that_are_not_finite_are_no_result() -> None:
    broken = torch.ones(4, 2)
    broken[2, 0] = float("nan")
    with pytest.raises(VictimDiverged):
        best_ranks(broken, torch.ones(4, 2), torch.arange(4), torch.arange(4), 0)


def test_a_query_without_own_candidates_is_an_error() -> None:
    with pytest.raises(ValueError, match="no candidate"):
        best_ranks(torch.ones(2, 2), torch.ones(2, 2), torch.tensor([0, 7]), torch.tensor([0, 1]), 0)
