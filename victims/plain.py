"""open_clip's own text tower at its full context, with the option to replace its token embeddings."""

from typing import Any

import torch
import torch.nn.functional as F


def text_features(model: Any, tower: Any, tokens: torch.Tensor, embeddings: torch.Tensor | None = None) -> torch.Tensor:
    """Features by open_clip's ``encode_text``, before normalisation.

    Args:
        model: an open_clip model.
        tower: the part of it that holds the ``token_embedding``.
        tokens: (B, L) int64 ids, L at most the context length.
        embeddings: (B, L, W) in place of the ids' own embeddings.

    Returns:
        (B, D) in the compute dtype.
    """
    tokens = F.pad(tokens, (0, tower.context_length - tokens.shape[1]))
    if embeddings is None:
        return model.encode_text(tokens)

    def replace(module: Any, ids: Any, looked_up: torch.Tensor) -> torch.Tensor:
        return torch.cat([embeddings, looked_up[:, embeddings.shape[1] :]], dim=1)

    # encode_text starts from ids, so what its embedding returns is replaced on the way.
    with tower.token_embedding.register_forward_hook(replace):
        return model.encode_text(tokens)
