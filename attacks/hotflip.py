"""HotFlip: replace trigger tokens by those that lower a pair's own loss, found by first-order scores.

Ebrahimi et al. 2018; Algorithm 1 of the paper, line 8. Images are fixed while a trigger changes, so their features are
computed once, and every row chooses its own candidate. A row's choice depends on no other row's, so all candidates of a
position go through the text tower together.
"""

import torch

from victims.clip import Clip
from victims.tokens import insert_trigger, trigger_columns


def hotflip(
    model: Clip,
    image_features: torch.Tensor,
    tokens: torch.Tensor,
    trigger: torch.Tensor,
    vocabulary: torch.Tensor,
    candidates: int,
    before: torch.Tensor | None = None,
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
        before: (B, k) int64, where the trigger stands, as for :func:`victims.tokens.insert_trigger`.

    Returns:
        (B, k) int64, the new triggers.
    """
    trigger = trigger.clone()
    count = min(candidates, len(vocabulary))
    rows = torch.arange(len(tokens), device=tokens.device)
    choices = model.token_embedding[vocabulary].detach()
    scale = model.scale.detach()
    before = torch.zeros_like(trigger) if before is None else before
    for position in range(trigger.shape[1]):
        text, current, gradient = _linearised(model, image_features, tokens, trigger, before, position)
        tried = vocabulary[(-gradient @ choices.T).topk(count, dim=1).indices]
        with torch.no_grad():
            changed = trigger[:, None].repeat(1, count, 1)
            changed[:, :, position] = tried
            repeated, places = (each.repeat_interleave(count, 0) for each in (tokens, before))
            full = insert_trigger(repeated, changed.flatten(0, 1), model.context_length, places)
            theirs = model.encode_many(full).view(len(tokens), count, -1)
            best, choice = own_pair_losses(image_features, text, theirs, scale).min(dim=1)
        trigger[:, position] = torch.where(best < current, tried[rows, choice], trigger[:, position])
    return trigger


def own_pair_losses(
    image_features: torch.Tensor, text: torch.Tensor, candidates: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Loss of each row's own pair with each candidate for its text, all other rows' texts held fixed.

    The loss is the cross-entropy of the image among all texts plus that of the text among all images.

    Args:
        image_features: (B, D) unit norm.
        text: (B, D) unit norm, the texts as they are.
        candidates: (B, C, D) unit norm, row by row what may take its text's place.
        scale: scalar logit scale.

    Returns:
        (B, C) nats.
    """
    among_images = scale * candidates @ image_features.T
    own = scale * (candidates * image_features[:, None]).sum(dim=-1)
    others = (scale * image_features @ text.T).fill_diagonal_(-torch.inf).logsumexp(dim=1, keepdim=True)
    return (among_images.logsumexp(dim=-1) - own) + (torch.logaddexp(others, own) - own)


def _linearised(
    model: Clip,
    image_features: torch.Tensor,
    tokens: torch.Tensor,
    trigger: torch.Tensor,
    before: torch.Tensor,
    position: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Text features (B, D), each row's own pair loss (B,), its gradient (B, W) by the embedding at one position."""
    with torch.enable_grad():
        full = insert_trigger(tokens, trigger, model.context_length, before)
        embeddings = model.token_embedding[full].detach().requires_grad_()
        text = model.encode_many(full, embeddings)
        fixed = text.detach()
        losses = own_pair_losses(image_features, fixed, text[:, None], model.scale.detach())[:, 0]
        (gradient,) = torch.autograd.grad(losses.sum(), embeddings)
    rows = torch.arange(len(tokens), device=tokens.device)
    return fixed, losses.detach(), gradient[rows, trigger_columns(before)[:, position]]
