"""ReLU's and pooling's gradients by the bits: exactly those of torch, in every dtype."""

import pytest
import torch
import torch.nn.functional as F

from victims.fast.bf16_relu import positive, unpooled, where_positive
from victims.fast.resnet import _relu, _relu_pool

DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def maps(dtype: torch.dtype, seed: int, size: int = 8) -> torch.Tensor:
    """With zeros of both signs, subnormal and huge numbers among the usual ones."""
    x = torch.randn(3, 5, size, size, generator=torch.Generator().manual_seed(seed)).to(dtype)
    x.view(-1)[:8] = torch.tensor([0.0, -0.0, 1e-39, -1e-39, 3e38, -3e38, 1.0, -1.0], dtype=torch.float64).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_positive(dtype: torch.dtype) -> None:
    y, g = maps(dtype, 0).relu(), maps(dtype, 1)
    assert torch.equal(where_positive(g, y), torch.where(y > 0, g, torch.zeros((), dtype=dtype)))
    assert torch.equal(positive(y), (y > 0).to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("size", [8, 9])
def test_unpooled(dtype: torch.dtype, relu: bool, size: int) -> None:
    x, g = maps(dtype, 0, size).requires_grad_(), maps(dtype, 1, size // 2)
    F.avg_pool2d(F.relu(x) if relu else x, 2).backward(g)
    assert x.grad is not None
    assert torch.equal(unpooled(g, F.relu(x.detach()) if relu else x.detach(), relu=relu), x.grad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pooled", [False, True])
def test_relu_in_training(dtype: torch.dtype, pooled: bool) -> None:
    x = maps(dtype, 2).requires_grad_()
    twin = x.detach().clone().requires_grad_()
    found = (_relu_pool if pooled else _relu)(x * 1)
    expected = F.avg_pool2d(F.relu(twin * 1), 2) if pooled else F.relu(twin * 1)
    assert torch.equal(found, expected)
    g = maps(dtype, 3, size=found.shape[2])
    found.backward(g)
    expected.backward(g)
    assert x.grad is not None
    assert twin.grad is not None
    assert torch.equal(x.grad, twin.grad)
