"""Retrieval metrics: recall@k, median rank and mean rank, in both directions.

Image→Text: the rank of the best-ranked of an image's own captions among all captions. Text→Image: the rank of a
caption's own image among all images. Recall@k is a hit rate, as in the retrieval literature.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from msgspec import Meta

from benchmark.core.errors import VictimDiverged
from benchmark.core.seeding import torch_generator

Percent = Annotated[float, Meta(ge=0, le=100)]
Rank = Annotated[float, Meta(ge=1, le=1e12)]
_CELLS_AT_ONCE = 4_000_000  # entries of the similarity matrix held at a time: 16 MB in fp32


@dataclass(frozen=True)
class RetrievalScores:
    """One direction's scores: recall@k in percent, ranks counted from 1. Records are read by these types.

    A new score goes last, with a type such as ``Percent | None`` and the default ``None``: records from before lack it.
    """

    recall_at_1: Percent
    recall_at_5: Percent
    recall_at_10: Percent
    median_rank: Rank
    mean_rank: Rank


@dataclass(frozen=True)
class Retrieval:
    """Scores in both directions."""

    image_to_text: RetrievalScores
    text_to_image: RetrievalScores

    @property
    def mean_recall_at_10(self) -> float:
        """Mean of both directions' recall@10, percent: the criterion for the best epoch."""
        return (self.image_to_text.recall_at_10 + self.text_to_image.recall_at_10) / 2


def best_ranks(
    queries: torch.Tensor,
    candidates: torch.Tensor,
    query_group: torch.Tensor,
    candidate_group: torch.Tensor,
    seed: int,
) -> torch.Tensor:
    """Rank, from 1, of each query's best-ranked candidate of its own group among all candidates.

    Similarities are inner products in fp32. Ties are broken by one seeded random order of the candidates, so that a
    constant embedding scores at chance.

    Args:
        queries: (Q, D).
        candidates: (C, D).
        query_group: (Q,) integer.
        candidate_group: (C,) integer; a candidate belongs to a query if their groups are equal.
        seed: of the order that breaks ties.

    Returns:
        (Q,) int64.

    Raises:
        VictimDiverged: an embedding is not finite.
        ValueError: a query without a candidate of its own.
    """
    queries, candidates = queries.float(), candidates.float()
    if not (queries.isfinite().all() and candidates.isfinite().all()):
        raise VictimDiverged("the victim's embeddings are not finite: training diverged")
    order = torch.randperm(len(candidates), generator=torch_generator(seed, "ties")).to(candidates.device)
    chunk = max(1, _CELLS_AT_ONCE // len(candidates))
    ranks = []
    for start in range(0, len(queries), chunk):
        similarity = queries[start : start + chunk] @ candidates.T
        same_group = query_group[start : start + chunk, None] == candidate_group[None, :]
        if not same_group.any(dim=1).all():
            raise ValueError("a query has no candidate of its own")
        best = similarity.masked_fill(~same_group, -torch.inf).amax(dim=1, keepdim=True)
        tied = similarity == best
        place = order.expand_as(tied).masked_fill(~(same_group & tied), len(candidates)).amin(dim=1, keepdim=True)
        ahead = (similarity > best) | (tied & (order < place))
        ranks.append(ahead.sum(dim=1) + 1)
    return torch.cat(ranks)


def scores(ranks: torch.Tensor) -> RetrievalScores:
    """Recall@1/5/10 in percent, median and mean of (Q,) ranks; the median of an even count is the middle two's mean."""
    ranks = ranks.cpu()  # not every device has fp64
    wide = ranks.double()
    return RetrievalScores(
        recall_at_1=float((ranks <= 1).double().mean() * 100),
        recall_at_5=float((ranks <= 5).double().mean() * 100),
        recall_at_10=float((ranks <= 10).double().mean() * 100),
        median_rank=float(wide.quantile(0.5)),
        mean_rank=float(wide.mean()),
    )


def retrieval(images: torch.Tensor, captions: torch.Tensor, caption_image: torch.Tensor, seed: int) -> Retrieval:
    """Both directions' scores from features.

    Args:
        images: (N, D) unit-norm image features.
        captions: (P, D) unit-norm caption features.
        caption_image: (P,) int64, the image each caption belongs to.
        seed: of the order that breaks ties.
    """
    image_index = torch.arange(len(images), device=caption_image.device)
    return Retrieval(
        image_to_text=scores(best_ranks(images, captions, image_index, caption_image, seed)),
        text_to_image=scores(best_ranks(captions, images, caption_image, image_index, seed)),
    )
