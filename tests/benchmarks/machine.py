"""The machine that benchmarks run on: its name, the device, and the fastest matrix product it can do."""

import os
import time
from dataclasses import dataclass
from typing import Any

import torch

from benchmark.core.devices import resolve_device, resolve_precision

_SECONDS = 3.0


@dataclass(frozen=True)
class Machine:
    """Where models run.

    Attributes:
        device: CUDA where there is one, else the CPU.
        precision: what models compute in there, ``bf16`` or ``fp32``.
        peak: FLOP/s of a square matrix product in that precision, the best of several.
    """

    device: torch.device
    precision: str
    peak: float

    @classmethod
    def measured(cls) -> "Machine":
        device = resolve_device("auto")
        precision = resolve_precision(device, "auto")
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        return cls(device, precision, matmul_peak(device, dtype, size=8192 if device.type == "cuda" else 2048))

    def wait(self) -> None:
        """Return when the device has done all it was asked to."""
        wait(self.device)


def matmul_peak(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of the fastest of the products of two (size, size) matrices that fit into a few seconds."""
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds: list[float] = []
    while sum(seconds) < _SECONDS:
        wait(device)
        start = time.perf_counter()
        left @ right
        wait(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def wait(device: torch.device) -> None:
    """CUDA works on after a call has returned; a time without waiting is that of the call."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def described(cpu: str) -> dict[str, Any]:
    """What a table says of the machine: card or CPU, cores, threads, versions."""
    device = resolve_device("auto")
    cuda = device.type == "cuda"
    capabilities = torch.cpu.get_capabilities()
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "name": torch.cuda.get_device_name(device)
        if cuda
        else cpu + (" (AMX)" if capabilities.get("amx_bf16") else ""),
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": resolve_precision(device, "auto"),
    }
