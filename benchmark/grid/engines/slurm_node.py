"""What the Slurm engine runs in a job: one poison or one cell, in the folders that all nodes share."""

import json
import os
import signal
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmark.core.devices import computes
from benchmark.core.disk_space import is_full_disk
from benchmark.core.errors import Failure
from benchmark.grid.engines.node import Work, opened
from benchmark.grid.records import Record
from benchmark.grid.sharing import attempt


@dataclass(frozen=True)
class Job:
    """What a job does, called by submitit.

    Attributes:
        work: the unit.
        record: of its cell, as the driver knows it; one that another job has written since is taken as it is.
    """

    work: Work
    record: Record | None

    def __call__(self) -> Record | Failure | None:
        """Craft the poison or train the victim; returns the record, or what went wrong."""
        import submitit

        environment = submitit.JobEnvironment()
        _end_where_it_exits(getattr(signal, f"SIG{environment.USR_SIG}"))
        news = News(environment.paths.folder / f"{environment.job_id}.news")
        try:
            grid, one = opened(self.work, self.work.settings, news.tell)
            if self.work.crafts:
                return grid.craft(one)
            return attempt(grid, replace(one, record=self.record), wait=True)
        except Exception as error:
            device, is_full = self.work.settings.device, is_full_disk(error)
            if is_full or (device.startswith("cuda") and not computes(torch.device(device))):
                # No fault of the unit's: the driver sees that the job is gone. Another job takes the unit, unless the
                # driver hears of a full disk.
                try:
                    traceback.print_exc()
                    if is_full:
                        news.tell(("refused", str(error)))
                finally:
                    os._exit(1)
            return Failure.of(error)

    def checkpoint(self) -> Any:
        """Tell submitit what to queue when Slurm stops the job: the same job, to go on from its last checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _end_where_it_exits(number: int) -> None:
    """Make this process end at once when the handler of a signal exits or fails.

    Submitit's handler queues the job again and then raises SystemExit. If it cannot queue the job, say because Slurm
    does not answer, it raises another error. Either would be recorded as an error of the cell. If the process ends
    instead, the driver sees that the job is gone.
    """
    handle = signal.getsignal(number)
    assert callable(handle)

    def end(number: int, frame: FrameType | None) -> None:
        try:
            handle(number, frame)
        except BaseException as error:
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            os._exit(1)

    signal.signal(number, end)


class News:
    """A file of JSON lines by which a job tells its driver how far it is.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._read = path, 0

    def tell(self, answer: tuple[Any, ...]) -> None:
        """Add a line."""
        # Other machines see what is written when the file is closed. What an earlier start of the job has written may
        # end within a line, which must not swallow this one.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(answer)}\n")

    def read(self) -> list[list[Any]]:
        """The whole lines that are new since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self._read += len(whole + newline)
        answers = []
        for line in whole.splitlines():
            with suppress(ValueError):  # an empty line, or one in which a job died
                answers.append(json.loads(line))
        return answers
