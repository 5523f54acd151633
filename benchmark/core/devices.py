"""What this machine computes on, and in which number format it is fast."""

from typing import Literal

import torch

from benchmark.core.errors import UsageError
from benchmark.core.precision import Precision


def resolve_device(name: str) -> torch.device:
    """``auto`` takes CUDA where there is one, else the CPU.

    Raises:
        UsageError: no such device here.
    """
    if name in ("auto", "cuda") and torch.cuda.is_available():
        # Not tried, as below: a tensor would take memory of the first GPU, also in processes that get another one.
        return torch.device("cuda")
    if name == "auto":
        return torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"'{name}' is no device; write auto, cpu, cuda, cuda:1 …") from error
    try:
        torch.zeros(1, device=device).item()  # a device without storage, as meta, has no values
    except (RuntimeError, AssertionError, ImportError) as error:
        raise UsageError(f"device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error
    return device


def computes(device: torch.device) -> bool:
    """Whether a device still works: after a failed assertion or an illegal access, a GPU does nothing for the process.

    All later cells would fail, each in no time. So the process ends instead, and another takes its work.
    """
    if device.type != "cuda":
        return True
    try:
        float(torch.zeros(1, device=device))
    except torch.OutOfMemoryError:
        return True
    except (RuntimeError, AssertionError):  # the latter where PyTorch is built without CUDA
        return False
    return True


def resolve_precision(device: torch.device, precision: Precision) -> Literal["fp32", "bf16"]:
    """What ``auto`` means on a device: bf16 where it multiplies matrices in it faster than in fp32, else fp32.

    Raises:
        UsageError: bf16 on a CPU without instructions for it: some convolutions fail there, and a matrix product takes
            80 times as long as in fp32 (AMD EPYC, Zen 3).
    """
    if precision == "bf16" and device.type == "cpu" and not cpu_computes_bf16():
        raise UsageError("this CPU has no instructions for bf16: take --precision fp32, or auto")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
        return "bf16" if native else "fp32"
    if device.type != "cpu":
        return "fp32"
    # Zen 4's AVX-512 multiplies twice as much in bf16 as in fp32 (435 against 197 GFLOP/s on two cores of an EPYC); an
    # Intel CPU needs matrix instructions for it (AMX) and by AVX-512 alone is slower than in fp32.
    capabilities = torch.cpu.get_capabilities()
    amd = str(capabilities.get("cpu_name", "")).startswith("AMD")
    native = capabilities.get("amx_bf16", False) or (amd and capabilities.get("avx512_bf16", False))
    return "bf16" if native else "fp32"


def cpu_computes_bf16() -> bool:
    """Whether all operations in bf16 run on this CPU; fast or not."""
    capabilities = torch.cpu.get_capabilities()
    wanted = ("avx512_bw", "avx512_vl", "avx512_dq")  # what torch's own convolutions ask for
    return (
        capabilities.get("architecture") != "x86_64"
        or capabilities.get("avx_ne_convert", False)
        or all(capabilities.get(name, False) for name in wanted)
    )
