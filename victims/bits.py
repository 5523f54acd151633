"""ReLU's gradient and pooling's gradient on feature maps, in bf16 by their bits.

The bits of a bf16 number are a 16-bit integer with the same sign, and a CPU goes through integers several times faster
than through bf16, which it widens and narrows. All functions are exact, in every dtype.
"""

import torch

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


def unpooled(g: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
    """The gradient of 2 × 2 average pooling; where ``y`` is given, of the ReLU before it as well.

    Args:
        g: (B, C, h, w), channels-last.
        y: (B, C, 2h, 2w), what was pooled, channels-last, ≥ 0.

    Returns:
        (B, C, 2h, 2w).
    """
    batch, channels, height, width = g.shape
    tiles = (g / 4).permute(0, 2, 3, 1)[:, :, None, :, None].expand(batch, height, 2, width, 2, channels)
    if y is None:
        spread = tiles.contiguous()
    elif bits_are_fast(g):
        ones = _all_ones_where_positive(y).permute(0, 2, 3, 1).view(tiles.shape)
        spread = ones.bitwise_and_(tiles.view(torch.int16)).view(torch.bfloat16)
    else:
        spread = tiles * y.sign().permute(0, 2, 3, 1).reshape(tiles.shape)
    return spread.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


def _all_ones_where_positive(y: torch.Tensor) -> torch.Tensor:
    return y.view(torch.int16).neg().bitwise_right_shift_(15)
