"""CLIP's ResNet in training: open_clip's function and gradient, by the kernels that are fast on a CPU.

A CPU's convolution kernels are made for large maps. For 1 × 1 filters and for the small maps of the last layers, a
plain matrix product takes a fraction of their time, above all for the gradient of the filters. On other devices the
library knows best, and all but the attention pool is left to it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import Bottleneck, ModifiedResNet
from torch import nn

from victims.fast.bf16_relu import bits_are_fast, unpooled, where_positive
from victims.fast.late_gradients import convolve, linear


def resnet_features(network: ModifiedResNet, pixels: torch.Tensor) -> torch.Tensor:
    """Features of an open_clip ``ModifiedResNet`` in its own mode (training or eval).

    Args:
        network: the network.
        pixels: (B, 3, H, W) normalised, channels-last.

    Returns:
        (B, D), before the norm of the features is made one.
    """
    x = pixels
    for conv, norm in ((network.conv1, network.bn1), (network.conv2, network.bn2), (network.conv3, network.bn3)):
        x = norm(_convolve(conv, x))
        x = _relu_pool(x) if conv is network.conv3 else _relu(x)
    for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
        for block in layer:
            x = _bottleneck(block, x)
    return attention_pool(network.attnpool, x)


def _bottleneck(block: Bottleneck, x: torch.Tensor) -> torch.Tensor:
    y = _relu(block.bn1(_convolve(block.conv1, x)))
    y = block.bn2(_convolve(block.conv2, y))
    y = _relu_pool(y) if block.stride > 1 else _relu(y)
    y = block.bn3(_convolve(block.conv3, y))
    if block.downsample is None:
        return _relu(y.add_(x))
    pool, conv, norm = block.downsample
    return _relu(y.add_(norm(_convolve(conv, pool(x) if block.stride > 1 else x))))


def attention_pool(pool: Any, maps: torch.Tensor) -> torch.Tensor:
    """open_clip's ``AttentionPool2d`` for the one query whose answer is used, the mean of the positions.

    The original computes attention for the queries of all positions and keeps the first result. With a single query q,
    the keys need not be computed, because q·(W x) = (Wᵀ q)·x. The values need not be computed either: the attention
    weights can average the inputs before W is applied. This is less work as long as there are more positions than
    heads.

    Args:
        pool: the module.
        maps: (B, C, h, w).

    Returns:
        (B, D) in the dtype of the last projection.
    """
    batch, channels = maps.shape[:2]
    heads = pool.num_heads
    x = maps.flatten(2).transpose(1, 2)
    x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
    x = x + pool.positional_embedding.to(x.dtype)
    query = linear(x[:, 0], pool.q_proj.weight, pool.q_proj.bias).view(batch, 1, heads, -1)
    query = query * query.shape[-1] ** -0.5
    if x.shape[1] <= heads:
        keys = linear(x, pool.k_proj.weight, pool.k_proj.bias).view(batch, -1, heads, channels // heads)
        values = linear(x, pool.v_proj.weight, pool.v_proj.bias).view(batch, -1, heads, channels // heads)
        weights = (query * keys).sum(dim=-1).softmax(dim=1)
        mixed = (weights[..., None].to(values.dtype) * values).sum(dim=1).flatten(1)
    else:
        # The bias of the keys adds the same to every position's score, and softmax takes it away again.
        asked = torch.einsum("bhd,hdc->bhc", query[:, 0], pool.k_proj.weight.view(heads, -1, channels))
        weights = (asked @ x.transpose(1, 2)).softmax(dim=-1)
        mean = weights.to(x.dtype) @ x
        mixed = torch.einsum("bhc,hdc->bhd", mean, pool.v_proj.weight.view(heads, -1, channels))
        mixed = mixed.flatten(1) + pool.v_proj.bias
    return linear(mixed, pool.c_proj.weight, pool.c_proj.bias)


def _convolve(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    if x.device.type != "cpu":
        return conv(x)
    if conv.kernel_size == (1, 1):
        return linear(x.permute(0, 2, 3, 1), conv.weight).permute(0, 3, 1, 2)
    return convolve(x, conv.weight, conv.stride[0]) if conv.kernel_size == (3, 3) else conv(x)


def _relu(x: torch.Tensor) -> torch.Tensor:
    """ReLU in place; ``x`` must be used nowhere else."""
    return _BitRelu.apply(x) if bits_are_fast(x) else F.relu_(x)


def _relu_pool(x: torch.Tensor) -> torch.Tensor:
    """ReLU in place, then 2 × 2 average pooling."""
    return _BitReluPool.apply(x) if bits_are_fast(x) else F.avg_pool2d(F.relu_(x), 2)


class _BitRelu(torch.autograd.Function):
    """ReLU of bf16 as the larger of its bits and 0: negative floats are negative integers."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        x.view(torch.int16).clamp_(min=0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return where_positive(gradients[0], ctx.saved_tensors[0])


class _BitReluPool(torch.autograd.Function):
    """The same with 2 × 2 average pooling behind it."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        # x is changed in place but not marked as dirty, because autograd requires dirty inputs to be returned. This is
        # safe: nothing else uses x.
        x.view(torch.int16).clamp_(min=0)
        ctx.save_for_backward(x)
        return F.avg_pool2d(x, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        g = gradients[0].contiguous(memory_format=torch.channels_last)
        return unpooled(g, ctx.saved_tensors[0], relu=True)
