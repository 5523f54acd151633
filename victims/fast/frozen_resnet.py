"""CLIP's ResNet in eval mode with frozen weights, and its gradient with respect to pixels written out.

PGD needs the features and their gradient with respect to pixels, but no gradients of weights. So each batch norm is
folded into the convolution before it. Biases, ReLUs and residual sums are computed together with the convolution that
they follow. In the backward pass, the gradient of a convolution is a convolution with turned filters, and the gradient
of the ReLU before it is a factor on the result. On a CPU, oneDNN computes a convolution with all of these in one pass
over memory; passes over memory take most of the time of such a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import Bottleneck, ModifiedResNet
from torch import nn
from torch.nn.grad import conv2d_input
from torch.nn.utils import fuse_conv_bn_weights

from victims.fast.bf16_relu import positive, unpooled, where_positive
from victims.fast.resnet import attention_pool


class FrozenResNet(nn.Module):
    """The function of an open_clip ``ModifiedResNet`` in eval mode, differentiable with respect to pixels alone.

    Args:
        network: a copy to be given away: its attention pool is taken over and converted.
        dtype: of weights and activations.
    """

    def __init__(self, network: ModifiedResNet, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.pool = network.attnpool.to(dtype)
        self.stem = [
            _Convolution.folded(conv, norm, dtype)
            for conv, norm in ((network.conv1, network.bn1), (network.conv2, network.bn2), (network.conv3, network.bn3))
        ]
        layers = (network.layer1, network.layer2, network.layer3, network.layer4)
        self.blocks = [_Block.folded(block, dtype) for layer in layers for block in layer]

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Features (B, D) of normalised pixels (B, 3, H, W), before the norm of the features is made one."""
        return attention_pool(self.pool, _PixelGradient.apply(pixels.to(self.dtype), self))

    def maps(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """All that :meth:`pixel_gradient` needs, the last feature maps (B, C, h, w) at its end."""
        x = pixels.contiguous(memory_format=torch.channels_last)
        seen: list[torch.Tensor] = []
        for conv in self.stem:
            x = conv(x, relu=True)
            seen.append(x)
        x = F.avg_pool2d(x, 2)
        for block in self.blocks:
            seen.extend(block(x))
            x = seen[-1]
        return seen

    def pixel_gradient(self, gradient: torch.Tensor, seen: Sequence[torch.Tensor], shape: torch.Size) -> torch.Tensor:
        """The gradient with respect to pixels of that shape, from that with respect to the last feature maps."""
        g = gradient.contiguous(memory_format=torch.channels_last)
        first, second, third = seen[:3]
        for number, block in reversed(list(enumerate(self.blocks))):
            after_first, after_second, y = seen[3 + 3 * number : 6 + 3 * number]
            g = block.gradient(g, after_first, after_second, y)
        g = unpooled(g, third, relu=True)
        g = self.stem[2].gradient(g, relu_of=second)
        g = self.stem[1].gradient(g, relu_of=first)
        return conv2d_input(shape, self.stem[0].weight, g, stride=2, padding=1)


class _PixelGradient(torch.autograd.Function):
    """The network below the attention pool as one step of autograd."""

    @staticmethod
    def forward(ctx: Any, pixels: torch.Tensor, network: FrozenResNet) -> torch.Tensor:
        seen = network.maps(pixels)
        if ctx.needs_input_grad[0]:
            ctx.network, ctx.shape = network, pixels.shape
            ctx.save_for_backward(*seen)
        return seen[-1]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.network.pixel_gradient(gradients[0], ctx.saved_tensors, ctx.shape), None


@dataclass(frozen=True)
class _Convolution:
    """A convolution with its batch norm folded in.

    Attributes:
        weight: (O, I, k, k).
        bias: (O,).
        turned: (I, O, k, k), the filters of the gradient.
        stride: 1 or 2.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    turned: torch.Tensor
    stride: int

    @classmethod
    def folded(cls, conv: nn.Conv2d, norm: nn.BatchNorm2d, dtype: torch.dtype) -> "_Convolution":
        statistics = cast(torch.Tensor, norm.running_mean), cast(torch.Tensor, norm.running_var)
        filters, bias = fuse_conv_bn_weights(conv.weight, conv.bias, *statistics, norm.eps, norm.weight, norm.bias)
        weight = filters.detach().to(dtype).contiguous(memory_format=torch.channels_last)
        turned = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return cls(weight, bias.detach().to(dtype), turned, conv.stride[0])

    def __call__(self, x: torch.Tensor, *, add: torch.Tensor | None = None, relu: bool = False) -> torch.Tensor:
        return _convolve(x, self.weight, self.bias, self.stride, add=add, relu=relu)

    def gradient(
        self, g: torch.Tensor, *, add: torch.Tensor | None = None, relu_of: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The gradient with respect to the input (stride 1 only).

        Args:
            g: the gradient with respect to the output.
            add: a gradient to add to the result.
            relu_of: the input, if a ReLU has made it; the result is then the gradient before that ReLU.
        """
        return _convolve(g, self.turned, None, 1, add=add, relu_of=relu_of)


@dataclass(frozen=True)
class _Block:
    """A bottleneck: three convolutions, beside them the identity or a shortcut; pooled where it halves the maps."""

    first: _Convolution
    second: _Convolution
    third: _Convolution
    shortcut: _Convolution | None
    pooled: bool

    @classmethod
    def folded(cls, block: Bottleneck, dtype: torch.dtype) -> "_Block":
        """The block in eval mode, its batch norms folded in; the block is left as it is."""
        down = None if block.downsample is None else dict(block.downsample.named_children())
        return cls(
            _Convolution.folded(block.conv1, block.bn1, dtype),
            _Convolution.folded(block.conv2, block.bn2, dtype),
            _Convolution.folded(block.conv3, block.bn3, dtype),
            None if down is None else _Convolution.folded(down["0"], down["1"], dtype),
            block.stride > 1,
        )

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The outputs of the block's three ReLUs; the last one is the output of the block."""
        after_first = self.first(x, relu=True)
        after_second = self.second(after_first, relu=True)
        beside = x
        if self.shortcut is not None:
            beside = self.shortcut(F.avg_pool2d(x, 2) if self.pooled else x)
        y = self.third(F.avg_pool2d(after_second, 2) if self.pooled else after_second, add=beside, relu=True)
        return after_first, after_second, y

    def gradient(
        self, g: torch.Tensor, after_first: torch.Tensor, after_second: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        """The gradient with respect to the block's input.

        Args:
            g: the gradient with respect to the block's output.
            after_first: the output of the first ReLU, as the block returned it.
            after_second: the output of the second ReLU.
            y: the output of the block.
        """
        g = where_positive(g, y)
        beside = g if self.shortcut is None else self.shortcut.gradient(g)
        if self.pooled:
            beside = unpooled(beside, after_first, relu=False)
            g = unpooled(self.third.gradient(g), after_second, relu=True)
        else:
            g = self.third.gradient(g, relu_of=after_second)
        g = self.second.gradient(g, relu_of=after_first)
        return self.first.gradient(g, add=beside)


def _convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: int,
    *,
    add: torch.Tensor | None = None,
    relu: bool = False,
    relu_of: torch.Tensor | None = None,
) -> torch.Tensor:
    """A same-size convolution, then a sum or the gradient of the ReLU that gave ``relu_of``, then perhaps ReLU."""
    padding = weight.shape[-1] // 2
    if fuses(x):
        geometry = ([padding] * 2, [stride] * 2, [1, 1], 1)
        fused = torch.ops.mkldnn._convolution_pointwise
        other = add if relu_of is None else positive(relu_of)
        if other is None:
            return fused(x, weight, bias, *geometry, "relu" if relu else "none", [], "")
        kind = "add" if relu_of is None else "mul"
        return fused.binary(x, other, weight, bias, *geometry, kind, None, "relu" if relu else None, [], None)
    y = F.conv2d(x, weight, bias, stride, padding)
    if add is not None:
        y.add_(add)
    if relu_of is not None:
        y = where_positive(y, relu_of)
    return y.relu_() if relu else y


def fuses(x: torch.Tensor) -> bool:
    """Whether oneDNN's fused convolutions can take this tensor."""
    there = torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)
    return there and x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float32)
