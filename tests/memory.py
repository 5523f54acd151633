"""Where an array lies and how much memory a process holds that no file backs; Linux only."""

import threading
from pathlib import Path
from types import TracebackType

import numpy as np
import pytest

linux_only = pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="reads /proc")


def backing_file(array: np.ndarray) -> str:
    """The file that the memory under an array is mapped from; empty for anonymous memory."""
    address = array.__array_interface__["data"][0]
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, _, *name = line.split(maxsplit=5)
        start, end = (int(bound, 16) for bound in span.split("-"))
        if start <= address < end:
            return name[0] if name and name[0].startswith("/") else ""
    raise ValueError("the array lies nowhere")


def memory(what: str, process: int | str = "self") -> int:
    """Bytes of memory of a process, by the name that ``/proc`` has for it, as ``VmRSS``.

    Raises:
        OSError: there is no such process.
    """
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) << 10


def anonymous_mb() -> float:
    """RssAnon of this process, in MiB."""
    return memory("RssAnon") / 2**20


class AnonymousPeak:
    """Samples RssAnon in a thread while its block runs.

    Attributes:
        before: MiB when the block began.
        peak: the most MiB seen.
    """

    def __enter__(self) -> "AnonymousPeak":
        self.before = self.peak = anonymous_mb()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.peak = max(self.peak, anonymous_mb())
