"""The image tower's fast paths against open_clip's own module: frozen for PGD, and in training."""

import copy

import open_clip
import pytest
import torch

from benchmark.core.precision import Precision
from tests.equality import plain
from tests.small import PRECISIONS, small_clip
from victims.clip import Clip
from victims.fast.resnet import _convolve, attention_pool

CPU = torch.device("cpu")
# At 32 px the last maps have one position, at 96 px nine: fewer, then more, than the four heads of the pool (two at
# the smallest); blocks with and without a shortcut, with and without a halving of the maps.
# At 56 px the second maps have seven positions a side, of which pooling leaves the last out.
NETWORKS = [(32, (1, 1, 1, 1)), (56, (1, 1, 1, 1)), (64, (2, 1, 2, 1)), (96, (1, 2, 1, 2))]


def clip(resolution: int, layers: tuple[int, ...], dtype: torch.dtype, precision: Precision = "fp32") -> Clip:
    return Clip(small_clip(resolution, layers, dtype), CPU, precision)


def pixels(resolution: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(resolution)
    return torch.randint(0, 256, (6, 3, resolution, resolution), generator=generator).to(dtype) / 255


@pytest.mark.parametrize(("resolution", "layers"), NETWORKS)
def test_frozen_features_and_pixel_gradients_in_fp64(resolution: int, layers: tuple[int, ...]) -> None:
    slow = small_clip(resolution, layers).eval()
    fast = clip(resolution, layers, torch.float64).for_inference()
    weight = torch.randn(6, 16, dtype=torch.float64)
    one, other = (pixels(resolution).requires_grad_() for _ in range(2))
    found, expected = fast.encode_images(one), plain.image_features(slow, other)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("resolution", "layers"), NETWORKS)
def test_training_features_gradients_and_statistics_in_fp64(resolution: int, layers: tuple[int, ...]) -> None:
    slow = small_clip(resolution, layers).train()
    fast = clip(resolution, layers, torch.float64).train()
    weight = torch.randn(6, 16, dtype=torch.float64)
    found, expected = (pixels(resolution).requires_grad_() for _ in range(2))
    torch.testing.assert_close(fast.encode_images(found), plain.image_features(slow, expected), rtol=0, atol=1e-12)
    # Twice, for in-place kernels must not spoil what the next forward pass reads.
    (fast.encode_images(found) * weight).sum().backward()
    (plain.image_features(slow, expected) * weight).sum().backward()
    torch.testing.assert_close(found.grad, expected.grad, rtol=1e-8, atol=1e-11)
    gradients = {name: p.grad for name, p in slow.visual.named_parameters()}
    for name, parameter in fast.model.get_submodule("visual").named_parameters():
        # The keys' bias moves all scores alike: its gradient is zero, or not taken at all.
        found_gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found_gradient, gradients[name], rtol=1e-8, atol=1e-11, msg=name)
    for name, buffer in slow.visual.named_buffers():
        torch.testing.assert_close(fast.model.get_buffer(f"visual.{name}"), buffer, msg=name)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_frozen_network_ends_where_the_training_one_does(precision: Precision) -> None:
    # As far from fp64 as plain open_clip under autocast is, or closer.
    exact = plain.image_features(small_clip(64, (2, 1, 2, 1)).eval(), pixels(64)).detach()
    single = small_clip(64, (2, 1, 2, 1), torch.float32).eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        usual = plain.image_features(single, pixels(64, torch.float32))
    fast = clip(64, (2, 1, 2, 1), torch.float32, precision).eval()
    bound = 1.5 * float((usual.detach().double() - exact).norm(dim=1).max()) + 1e-6
    assert bound < (0.05 if precision == "bf16" else 1e-5)
    for model in (fast, fast.for_inference()):
        found = model.encode_images(pixels(64, torch.float32)).detach().double()
        assert float((found - exact).norm(dim=1).max()) < bound


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize(("kernel", "size", "stride"), [(1, 8, 1), (3, 7, 1), (3, 8, 1), (3, 1, 1), (3, 6, 2)])
def test_convolutions_by_matrix_products(kernel: int, size: int, stride: int, dtype: torch.dtype, close: float) -> None:
    generator = torch.Generator().manual_seed(size)
    conv = torch.nn.Conv2d(8, 12, kernel, stride, padding=kernel // 2, bias=False, dtype=dtype)
    x = torch.randn(4, 8, size, size, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    g = torch.randn(4, 12, size // stride, size // stride, generator=generator).to(dtype)
    exact, point = conv.weight.detach().double().requires_grad_(), x.double().requires_grad_()
    expected = torch.nn.functional.conv2d(point, exact, stride=stride, padding=kernel // 2)
    expected.backward(g.double())
    x.requires_grad_()
    found = _convolve(conv, x)
    found.backward(g)
    for one, other in ((found, expected), (x.grad, point.grad), (conv.weight.grad, exact.grad)):
        assert one is not None
        assert other is not None
        assert float((one.detach().double() - other.detach()).norm() / other.detach().norm()) < close


@pytest.mark.parametrize("positions", [1, 4, 25])
def test_attention_pool_of_one_query(positions: int) -> None:
    torch.manual_seed(0)
    side = int(positions**0.5)
    pool = open_clip.modified_resnet.AttentionPool2d(side, 64, 8, 16).double()
    torch.nn.init.normal_(pool.q_proj.bias)
    torch.nn.init.normal_(pool.k_proj.bias)
    torch.nn.init.normal_(pool.v_proj.bias)
    torch.nn.init.normal_(pool.positional_embedding)
    twin = copy.deepcopy(pool)
    maps = torch.randn(3, 64, side, side, dtype=torch.float64)
    found, expected = attention_pool(pool, maps), twin(maps)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    found.square().sum().backward()
    expected.square().sum().backward()
    for (name, one), other in zip(pool.named_parameters(), twin.parameters(), strict=True):
        grad = torch.zeros_like(one) if one.grad is None else one.grad
        torch.testing.assert_close(grad, other.grad, rtol=1e-9, atol=1e-12, msg=name)
