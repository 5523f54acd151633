"""Which device there is, whether it works, and which number format it is fast in."""

from contextlib import nullcontext

import pytest
import torch

from benchmark.core.devices import computes, resolve_device, resolve_precision
from benchmark.core.errors import UsageError
from tests.small import make_clip


def test_a_device_that_is_not_here() -> None:
    with pytest.raises(UsageError, match="cannot be used"):
        resolve_device("cuda:99")


@pytest.mark.parametrize(
    ("error", "works"),
    [(None, True), (torch.OutOfMemoryError("full"), True), (RuntimeError("CUDA error: device-side assert"), False)],
)
def test_a_device_works_unless_it_computes_nothing_any_more(
    error: Exception | None, works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory of a GPU can be full, and a CPU is not asked."""

    def zeros(*_: object, **__: object) -> torch.Tensor:
        if error is not None:
            raise error
        return torch.ones(1)

    monkeypatch.setattr("torch.zeros", zeros)
    assert computes(torch.device("cuda")) is works
    assert computes(torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is one")
def test_a_gpu_that_is_not_there_does_not_work() -> None:
    assert not computes(torch.device("cuda"))


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"amx_bf16": True}, "bf16"),
        ({"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R) Processor"}, "fp32"),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, "bf16"),
        ({"avx512_bf16": False, "cpu_name": "AMD EPYC"}, "fp32"),
        ({}, "fp32"),
    ],
)
def test_auto_precision_on_a_cpu_is_bf16_only_where_it_is_fast(
    capabilities: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert resolve_precision(torch.device("cpu"), "auto") == expected
    assert resolve_precision(torch.device("cpu"), "bf16") == "bf16"


@pytest.mark.parametrize(
    ("instructions", "takes"),
    [
        ({"avx2"}, False),
        ({"avx2", "avx512_bw", "avx512_vl"}, False),
        ({"avx2", "avx512_bw", "avx512_vl", "avx512_dq"}, True),
        ({"avx2", "avx_ne_convert"}, True),
    ],
)
def test_a_cpu_without_instructions_for_bf16_does_not_take_it(
    instructions: set[str], takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"architecture": "x86_64", **dict.fromkeys(instructions, True)}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    with nullcontext() if takes else pytest.raises(UsageError, match="no instructions for bf16: take --precision"):
        make_clip(precision="bf16")
