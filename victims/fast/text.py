"""CLIP's text tower on token embeddings, with the context trimmed to the batch and attention written out.

open_clip's own ``encode_text`` adds the full positional table, so it takes 77 tokens and no fewer, and starts from ids,
so it has no gradient with respect to embeddings. Captions have some 14 tokens: the rest is work for nothing, for
attention is causal and the features are read at the end token. For such short sequences, attention as two plain matrix
products trains more than twice as fast on a CPU as the fused kernel, whose backward pass is slow there. On a GPU it
takes the place of torch's plain kernel, which computes in fp32 even under bf16; the gradients of the fused ones differ
from run to run.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, text_global_pool
from torch import nn

from victims.fast.late_gradients import linear

_PLAIN_ATTENTION_AT_MOST = 128  # tokens


def text_features(tower: Any, tokens: torch.Tensor, embeddings: torch.Tensor | None = None) -> torch.Tensor:
    """Features of a text tower, before normalisation; equal to open_clip's at any L ≥ the longest caption.

    Args:
        tower: an open_clip ``CLIP`` or ``TextTransformer``.
        tokens: (B, L) int64 ids, L at most the context length.
        embeddings: (B, L, W) in place of the ids' own embeddings.

    Returns:
        (B, D) in the compute dtype.
    """
    causal = tower.attn_mask is not None
    if not causal:
        # Attention in both directions sees the padding, so it has to be there, to the full context.
        missing = tower.context_length - tokens.shape[1]
        tokens = F.pad(tokens, (0, missing))
    x = tower.token_embedding(tokens) if embeddings is None else embeddings
    if x.shape[1] < tokens.shape[1]:
        padding = tower.token_embedding(tokens[:, x.shape[1] :])
        x = torch.cat([x, padding], dim=1)
    length = tokens.shape[1]
    mask = tower.attn_mask[:length, :length] if causal else None
    x = x + tower.positional_embedding[:length]
    for block in tower.transformer.resblocks:
        x = _block(block, x, mask)
    x = tower.ln_final(x)
    pool, end = _pooling(tower)
    x = text_global_pool(x, tokens, pool, eos_token_id=end)
    projection = tower.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def _pooling(tower: Any) -> tuple[str, int | None]:
    pool = getattr(tower, "text_pool_type", None) or tower.pool_type
    end = getattr(tower, "text_eos_id", None) or getattr(tower, "eos_id", None)
    return str(pool), end


def _block(block: Any, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    if type(block) is not ResidualAttentionBlock or x.shape[1] > _PLAIN_ATTENTION_AT_MOST:
        return block(x, attn_mask=mask)
    x = x + block.ls_1(_attention(block.attn, block.ln_1(x), mask))
    return x + block.ls_2(block.mlp(block.ln_2(x)))


def _attention(attention: nn.MultiheadAttention, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    batch, length, width = x.shape
    heads = attention.num_heads
    qkv = linear(x, attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = qkv.view(batch, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    scores = (query @ key.transpose(-1, -2)) * (width // heads) ** -0.5
    weights = (scores if mask is None else scores + mask.to(scores.dtype)).softmax(dim=-1)
    mixed = (weights.to(value.dtype) @ value).transpose(1, 2).reshape(batch, length, width)
    return linear(mixed, attention.out_proj.weight, attention.out_proj.bias)
