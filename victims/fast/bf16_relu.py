"""ReLU's gradient and pooling's gradient on feature maps, in bf16 by their bits.

The bits of a bf16 number are a 16-bit integer with the same sign, and a CPU goes through integers several times faster
than through bf16, which it widens and narrows. All functions are exact for finite numbers, in every dtype; NaN may
become 0.
"""

import torch
import torch.nn.functional as F

_ONE = 0x3F80  # the bits of 1.0 in bf16


def bits_are_fast(x: torch.Tensor) -> bool:
    """Whether to go by the bits: bf16 on a CPU."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu"


def positive(y: torch.Tensor) -> torch.Tensor:
    """1 where y > 0, else 0, for y ≥ 0 (the output of a ReLU)."""
    if not bits_are_fast(y):
        return y.sign()
    return y.view(torch.int16).clamp(max=1).mul_(_ONE).view(torch.bfloat16)


def where_positive(g: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The gradient of ReLU: g where y > 0, else 0, for y ≥ 0."""
    if not bits_are_fast(g):
        return torch.ops.aten.threshold_backward(g, y, 0)
    return _all_ones_where_positive(y).bitwise_and_(g.view(torch.int16)).view(torch.bfloat16)


def unpooled(g: torch.Tensor, y: torch.Tensor, *, relu: bool) -> torch.Tensor:
    """The gradient of 2 × 2 average pooling; with ``relu``, of the ReLU before it as well.

    Args:
        g: (B, C, H // 2, W // 2), channels-last.
        y: (B, C, H, W), what was pooled, channels-last; ≥ 0 with ``relu``.
        relu: whether ``y`` came out of a ReLU whose gradient is wanted, too.

    Returns:
        (B, C, H, W); a last row or column that pooling leaves out has none.
    """
    batch, channels, height, width = g.shape
    tiles = (g / 4).permute(0, 2, 3, 1)[:, :, None, :, None].expand(batch, height, 2, width, 2, channels)
    pooled = y[:, :, : 2 * height, : 2 * width].permute(0, 2, 3, 1).reshape(tiles.shape) if relu else None
    if pooled is None:
        spread = tiles.contiguous()
    elif bits_are_fast(g):
        spread = _all_ones_where_positive(pooled).bitwise_and_(tiles.view(torch.int16)).view(torch.bfloat16)
    else:
        spread = tiles * pooled.sign()
    spread = spread.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
    missing = (0, y.shape[3] - 2 * width, 0, y.shape[2] - 2 * height)
    return F.pad(spread, missing) if any(missing) else spread


def _all_ones_where_positive(y: torch.Tensor) -> torch.Tensor:
    return y.view(torch.int16).neg().bitwise_right_shift_(15)
