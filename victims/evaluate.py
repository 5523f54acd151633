"""A victim's retrieval scores on a clean split."""

import torch

from benchmark.data import CaptionDataset
from benchmark.metrics import Retrieval, retrieval
from victims.clip import Clip

_BATCH = 256


def evaluate(model: Clip, dataset: CaptionDataset, seed: int) -> Retrieval:
    """Scores of ``model`` on ``dataset``, in eval mode and without a gradient.

    Args:
        model: a victim; its mode and weights are left as they are.
        dataset: a clean split.
        seed: of the order that breaks ties.

    Raises:
        VictimDiverged: the embeddings are not finite.
    """
    frozen = model.for_inference()
    pairs = dataset.pairs
    with torch.no_grad():
        images = torch.cat(
            [
                frozen.encode_images(torch.from_numpy(dataset.images[start : start + _BATCH].copy()))
                for start in range(0, len(dataset), _BATCH)
            ]
        )
        texts = [dataset.captions[i][j] for i, j in pairs]
        # Captions of like length go together, so that each batch is trimmed to its own longest.
        order = sorted(range(len(texts)), key=lambda row: len(model.tokenizer.encode(texts[row])))
        features = torch.empty(len(texts), images.shape[1], device=images.device)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            features[rows] = frozen.encode_tokens(model.tokenizer([texts[row] for row in rows]))
    owner = torch.from_numpy(pairs[:, 0]).to(images.device)
    return retrieval(images, features, owner, seed)
