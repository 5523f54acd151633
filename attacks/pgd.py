"""Projected gradient descent on 8-bit images."""

from collections.abc import Callable

import torch


def minimise_noise(
    images: torch.Tensor,
    delta: torch.Tensor,
    loss: Callable[[torch.Tensor, int], torch.Tensor],
    *,
    eps: int,
    steps: int,
    step_size: int,
    bases: torch.Tensor | None = None,
) -> torch.Tensor:
    """Error-minimising noise: PGD that descends the loss, warm-started, in whole steps of 1/255.

    The image stays 8-bit and in [0, 255] at every step, so what the surrogate sees is what would be published, and
    int8 storage loses nothing. With ``bases`` it sees the noise on another image, clamped there.

    Args:
        images: (B, 3, H, W) uint8, clean.
        delta: (B, 3, H, W) int8, where to start.
        loss: from images (B, 3, H, W) float in [0, 1] and the step's number to a scalar.
        eps: bound on |δ|, in 1/255.
        steps: PGD steps.
        step_size: of a step, in 1/255.
        bases: (steps, B) int64, the image that each noise is put on at each step; ``None``: its own.

    Returns:
        (B, 3, H, W) int8, |δ| ≤ eps and image + δ in [0, 255].
    """
    clean = images.to(torch.int16)
    lowest = (-clean).clamp(min=-eps)
    highest = (255 - clean).clamp(max=eps)
    noise = delta.to(torch.int16).clamp(lowest, highest)
    for step in range(steps):
        base = clean if bases is None else clean[bases[step]]
        point = ((base + noise).clamp(0, 255).float() / 255).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(point, step), point)
        noise = noise - step_size * gradient.sign().to(torch.int16)
        noise = noise.clamp(lowest, highest)
    return noise.to(torch.int8)
