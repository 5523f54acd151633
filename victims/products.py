"""Products of matrices, in fp32 on AMD's CPUs with AVX-512 by oneDNN, which takes half as long as torch's own.

For fp32 matrices on a CPU torch calls MKL, which uses AVX-512 on Intel's CPUs alone. oneDNN, which torch has for
convolutions, uses it on all.
"""

from functools import cache

import torch
import torch.nn.functional as F

_LEAST = 2**19  # multiplications: below, oneDNN's preparations take longer than it saves


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``F.linear``: from (…, I) and (O, I) to (…, O)."""
    if _by_onednn(x, len(weight)):
        return torch.ops.mkldnn._linear_pointwise(_dense(x), _dense(weight), bias, "none", [], "")
    return F.linear(x, weight, bias)


def product(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Of two matrices (M, K) and (K, N)."""
    return linear(first, second.T) if _by_onednn(first, second.shape[1]) else first @ second


def _dense(x: torch.Tensor) -> torch.Tensor:
    # With gaps between rows oneDNN takes a thousand times as long.
    return x if x.is_contiguous() or x.mT.is_contiguous() else x.contiguous()


def _by_onednn(x: torch.Tensor, columns: int) -> bool:
    fits = x.device.type == "cpu" and x.dtype == torch.float32 and x.numel() * columns >= _LEAST
    return fits and onednn_is_faster() and bool(torch.backends.mkldnn.enabled)


@cache
def onednn_is_faster() -> bool:
    """Whether this CPU multiplies fp32 matrices faster by oneDNN."""
    name = torch.cpu.get_capabilities().get("cpu_name") or ""
    can = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return can and "AMD" in name and torch.backends.cpu.get_cpu_capability() == "AVX512"
