"""A victim's retrieval scores on a split or a part of one."""

import numpy as np
import torch
from numpy.typing import NDArray

from benchmark.core.idle_cpus import beside
from benchmark.data import CaptionDataset
from benchmark.metrics import Retrieval, retrieval
from victims.clip import Clip

_BATCH = 256


def pair_scores(model: Clip, dataset: CaptionDataset, pairs: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cosine similarity of images and their captions, in eval mode and without a gradient.

    Args:
        model: a victim; its mode and weights are left as they are.
        dataset: images with their captions.
        pairs: (P, 2) image and caption indices.

    Returns:
        (P,) float32 in [−1, 1].
    """
    frozen = model.for_inference()
    with torch.no_grad():
        text = frozen.encode_many(model.tokenizer([dataset.captions[i][j] for i, j in pairs]).to(model.device))
        # Each image once, however many of its captions are there.
        rows, place = np.unique(pairs[:, 0], return_inverse=True)
        images = _image_features(frozen, dataset, rows)[torch.from_numpy(place).to(text.device)]
    scores: NDArray[np.float32] = (images * text).sum(dim=1).cpu().numpy()
    return scores


def evaluate(model: Clip, dataset: CaptionDataset, seed: int = 0) -> Retrieval:
    """Scores of ``model`` on ``dataset``, in eval mode and without a gradient.

    Args:
        model: a victim; its mode and weights are left as they are.
        dataset: images with their captions.
        seed: of the order that breaks ties.

    Raises:
        VictimDiverged: the embeddings are not finite.
    """
    frozen = model.for_inference()
    pairs = dataset.pairs
    tokens = model.tokenizer([dataset.captions[i][j] for i, j in pairs]).to(model.device)
    text = beside(lambda: frozen.encode_many(tokens))
    with torch.no_grad():
        images = _image_features(frozen, dataset, np.arange(len(dataset)))
    owner = torch.from_numpy(pairs[:, 0]).to(images.device)
    return retrieval(images, text(), owner, seed)


def _image_features(frozen: Clip, dataset: CaptionDataset, rows: NDArray[np.int64]) -> torch.Tensor:
    """(R, D) of the images at ``rows`` (R,)."""
    starts = range(0, len(rows), _BATCH)
    return torch.cat([frozen.encode_images(dataset.batch(rows[start : start + _BATCH])) for start in starts])
