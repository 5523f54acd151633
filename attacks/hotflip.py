"""HotFlip: replace trigger tokens by those that lower a pair's own loss, found by first-order scores.

Ebrahimi et al. 2018; Algorithm 1 of the paper, line 8. Images are fixed while a trigger changes, so their features are
computed once, and every row chooses its own candidate.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

from victims.clip import Clip
from victims.tokens import insert_trigger


def hotflip(
    model: Clip,
    image_features: torch.Tensor,
    tokens: torch.Tensor,
    trigger: torch.Tensor,
    vocabulary: torch.Tensor,
    candidates: int,
) -> torch.Tensor:
    """One pass over the trigger's positions, greedily from left to right.

    At each position the vocabulary is scored by −E·∂L/∂e; the best ``candidates`` are tried, and the one with the
    lowest loss of its own pair is kept if it lowers that loss.

    Args:
        model: the surrogate, frozen and in eval mode.
        image_features: (B, D) unit norm, of the protected images.
        tokens: (B, L) int64, captions without a trigger.
        trigger: (B, k) int64.
        vocabulary: (V,) int64 ids to choose from.
        candidates: how many to try per position.

    Returns:
        (B, k) int64, the new triggers.
    """
    trigger = trigger.clone()
    count = min(candidates, len(vocabulary))
    rows = torch.arange(len(tokens), device=tokens.device)
    choices = model.token_embedding[vocabulary].detach()
    for position in range(trigger.shape[1]):
        current, gradient = _loss_and_gradient(model, image_features, tokens, trigger, position)
        tried = vocabulary[(-gradient @ choices.T).topk(count, dim=1).indices]
        pair_loss = pair_loss_of_candidates(model, image_features, tokens, trigger)
        losses = torch.stack([pair_loss(_replaced(trigger, position, tried[:, c])) for c in range(count)], dim=1)
        best, choice = losses.min(dim=1)
        trigger[:, position] = torch.where(best < current, tried[rows, choice], trigger[:, position])
    return trigger


def pair_losses(logits_row: torch.Tensor, logits_column: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Loss of each row's own pair: cross-entropy of its row plus that of its column of the logits.

    Args:
        logits_row: (B, B), row i: image i against all texts.
        logits_column: (B, B), row i: text i against all images.
        own: (B,) index of each row's own partner.

    Returns:
        (B,) nats.
    """
    return F.cross_entropy(logits_row, own, reduction="none") + F.cross_entropy(logits_column, own, reduction="none")


def pair_loss_of_candidates(
    model: Clip, image_features: torch.Tensor, tokens: torch.Tensor, trigger: torch.Tensor
) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from candidate triggers (B, k) to each row's own pair loss (B,), all other pairs held fixed."""
    own = torch.arange(len(tokens), device=tokens.device)
    with torch.no_grad():
        scale = model.scale
        fixed = model.encode_tokens(insert_trigger(tokens, trigger, model.context_length))
        logits = scale * image_features @ fixed.T

    def loss(candidate: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            text = model.encode_tokens(insert_trigger(tokens, candidate, model.context_length))
            column = scale * text @ image_features.T
            row = logits.clone()
            row[own, own] = column[own, own]
            return pair_losses(row, column, own)

    return loss


def _loss_and_gradient(
    model: Clip, image_features: torch.Tensor, tokens: torch.Tensor, trigger: torch.Tensor, position: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Each row's own pair loss (B,) and its gradient (B, W) with respect to the embedding at one trigger position."""
    with torch.enable_grad():
        full = insert_trigger(tokens, trigger, model.context_length)
        embeddings = model.token_embedding[full].detach().requires_grad_()
        text = model.encode_tokens(full, embeddings)
        own = torch.arange(len(tokens), device=tokens.device)
        scale = model.scale.detach()
        column = scale * text @ image_features.T
        # Other rows' texts are fixed: only the diagonal of a row's own logits moves with its trigger.
        fixed = scale * image_features @ text.detach().T
        row = torch.where(torch.eye(len(own), dtype=torch.bool, device=own.device), column, fixed)
        losses = pair_losses(row, column, own)
        (gradient,) = torch.autograd.grad(losses.sum(), embeddings)
    return losses.detach(), gradient[:, 1 + position]


def _replaced(trigger: torch.Tensor, position: int, tokens: torch.Tensor) -> torch.Tensor:
    changed = trigger.clone()
    changed[:, position] = tokens
    return changed
