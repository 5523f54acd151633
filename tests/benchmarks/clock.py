"""The clock of a benchmark: times that wait for the device, and the figures that go beside them into ``extra_info``."""

from collections.abc import Callable
from dataclasses import dataclass

from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.machine import Machine
from tests.benchmarks.workload import Workload


@dataclass(frozen=True)
class Clock:
    """Times one thing.

    Attributes:
        benchmark: pytest-benchmark's fixture.
        machine: the device and its matmul peak, measured in this run.
        seconds_per_row: by stage and victim, of all model steps timed so far in this run.
    """

    benchmark: BenchmarkFixture
    machine: Machine
    seconds_per_row: dict[tuple[str, str], float]

    def model(
        self,
        stage: str,
        work: Callable[[], object],
        load: Workload,
        *,
        rows: int,
        flops: float,
        batch: int | None = None,
        warm: bool = False,
    ) -> None:
        """Time a model's work; note rows/s, FLOP/s and their share of the matmul peak.

        Args:
            stage: its name in the table.
            work: what is timed.
            load: the victim and how often to repeat.
            rows: images (pairs) that one call of ``work`` sees.
            flops: that the algorithm needs for a row; see :mod:`flops`.
            batch: rows that the reported time is for; the victim's batch by default.
            warm: long work whose parts have run before: on a CPU it runs once and without a warm-up.
        """
        batch = batch or load.batch
        once = warm and self.machine.device.type == "cpu"
        seconds = self._median(work, 1 if once else load.rounds, 0 if once else 1)
        if seconds is None:
            return
        speed = rows * flops / seconds
        self.seconds_per_row[stage, load.victim] = seconds / rows
        self.benchmark.extra_info.update(
            stage=stage,
            model=f"{load.victim}, {load.model.resolution} px",
            batch=batch,
            seconds=seconds * batch / rows,
            seconds_per_row=seconds / rows,
            rows_per_second=rows / seconds,
            flop_per_second=speed,
            share_of_peak=speed / self.machine.peak,
            matmul_peak=self.machine.peak,
        )

    def items(self, stage: str, work: Callable[[], object], count: int, *, rounds: int = 3, warmup: int = 1) -> None:
        """Time other work; note items/s."""
        seconds = self._median(work, rounds, warmup)
        if seconds is not None:
            self.benchmark.extra_info.update(
                stage=stage, items=count, seconds=seconds, items_per_second=count / seconds
            )

    def _median(self, work: Callable[[], object], rounds: int, warmup: int) -> float | None:
        """Seconds of one call, or ``None`` without ``--benchmark-enable``."""

        def waited() -> None:
            work()
            self.machine.wait()

        self.machine.wait()
        self.benchmark.pedantic(waited, rounds=rounds, warmup_rounds=warmup)
        return None if self.benchmark.disabled else float(self.benchmark.stats.stats.median)
