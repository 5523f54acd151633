"""Products by oneDNN against the same in fp64."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from tests.small import make_clip
from victims import products
from victims.optimizers import make_optimizer
from victims.recipe import Recipe

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),
    reason="this PyTorch has no oneDNN",
)

LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "rows": lambda x: x,
    "columns": lambda x: x.T.contiguous().T,
    "rows with gaps": lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]],
    "columns with gaps": lambda x: torch.cat([x.T, x.T], dim=1)[:, : x.shape[0]].T,
}


@pytest.fixture(autouse=True)
def _by_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every CPU, and however small the matrices are."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(products, "_LEAST", 0)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what oneDNN has multiplied."""
    seen: list[tuple[int, ...]] = []
    onednn = torch.ops.mkldnn._linear_pointwise

    def counted(x: torch.Tensor, *others: object) -> torch.Tensor:
        seen.append(tuple(x.shape))
        return onednn(x, *others)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", counted)
    return seen


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_a_product_is_that_of_fp64(first: str, second: str, calls: list[tuple[int, ...]]) -> None:
    generator = torch.Generator().manual_seed(1)
    a = LAYOUTS[first](torch.randn(40, 70, generator=generator))
    b = LAYOUTS[second](torch.randn(70, 30, generator=generator))
    torch.testing.assert_close(products.product(a, b).double(), a.double() @ b.double(), atol=1e-4, rtol=0)
    assert calls == [(40, 70)]


def test_a_linear_layer_is_that_of_fp64(calls: list[tuple[int, ...]]) -> None:
    x, weight, bias = torch.randn(5, 7, 16), torch.randn(9, 16), torch.randn(9)
    expected = F.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(products.linear(x[:, 1:], weight, bias).double(), expected[:, 1:], atol=1e-4, rtol=0)
    assert calls


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_torchs_to_the_last_bit(dtype: torch.dtype, calls: list[tuple[int, ...]]) -> None:
    a, b = torch.randn(40, 70).to(dtype), torch.randn(70, 30).to(dtype)
    assert torch.equal(products.product(a, b), a @ b)
    assert torch.equal(products.linear(a, b.T), F.linear(a, b.T))
    assert not calls


def test_small_matrices_are_torchs(monkeypatch: pytest.MonkeyPatch, calls: list[tuple[int, ...]]) -> None:
    monkeypatch.setattr(products, "_LEAST", 40 * 70 * 30)
    a, b = torch.randn(40, 70), torch.randn(70, 30)
    products.product(a, b)
    products.product(a[:39], b)
    assert calls == [(40, 70)]


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_muon_makes_the_same_step(
    autocast: torch.dtype | None, monkeypatch: pytest.MonkeyPatch, calls: list[tuple[int, ...]]
) -> None:
    """In fp32 up to rounding, in bf16 to the last bit."""
    steps = []
    for faster in (True, False):
        monkeypatch.setattr("victims.optimizers.onednn_is_faster", lambda faster=faster: faster)
        clip = make_clip()
        clip.autocast_dtype = autocast
        generator = torch.Generator().manual_seed(1)
        for weight in clip.model.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)
        make_optimizer(clip, Recipe(optimizer="muon")).step()
        steps.append(torch.cat([weight.detach().flatten() for weight in clip.model.parameters()]))
    torch.testing.assert_close(*steps, atol=0 if autocast else 1e-5, rtol=0)
    assert bool(calls) == (autocast is None)
