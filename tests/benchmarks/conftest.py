"""Fixtures of the benchmarks. Nothing here is built before a benchmark asks for it."""

from pathlib import Path
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmark.core.devices import resolve_device
from benchmark.core.malloc import keep_freed_memory
from benchmark.core.seeding import use_repeatable_kernels
from tests.benchmarks.clock import Clock
from tests.benchmarks.machine import Machine, described
from tests.benchmarks.workload import Workload


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """In place of the fixture for all other tests: speed is measured on the threads that a run would have."""


@pytest.fixture(scope="session")
def machine() -> Machine:
    keep_freed_memory()
    use_repeatable_kernels(resolve_device("auto"))
    return Machine.measured()


@pytest.fixture(scope="session")
def seconds_per_row() -> dict[tuple[str, str], float]:
    """By stage and victim; the clock fills it."""
    return {}


@pytest.fixture
def clock(benchmark: BenchmarkFixture, machine: Machine, seconds_per_row: dict[tuple[str, str], float]) -> Clock:
    return Clock(benchmark, machine, seconds_per_row)


@pytest.fixture(scope="session", params=["tiny", "RN50"])
def load(request: pytest.FixtureRequest, machine: Machine, own_cache: Path) -> Workload:
    """A victim's work; all of one victim's benchmarks run before the next victim is built."""
    return Workload.prepare(request.param, machine.device, own_cache)


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    machine_info["bench"] = described(machine_info.get("cpu", {}).get("brand_raw", "CPU"))
