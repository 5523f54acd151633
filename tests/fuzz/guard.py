"""The promise of every reader, enforced: whatever the input, bounded time and memory, no file outside, no process.

Made for a process of its own (see :mod:`tests.fuzz.campaign`): an audit hook cannot be removed, so it is switched on
while a reader is at work. Linux only: memory is what ``/proc`` says.
"""

import faulthandler
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.memory import memory

_PROCESSES = frozenset(
    ("subprocess.Popen", "os.posix_spawn", "os.system", "os.exec", "os.spawn", "os.fork", "os.forkpty", "pty.spawn")
)
# Events that change the file system: where their arguments hold the path and the handle of its folder, if any.
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Breach(BaseException):
    """A broken promise. Not an ``Exception``: no reader takes it for an error of its file."""


@dataclass
class Guard:
    """Watches a reader at work.

    Attributes:
        seconds: the most that an input may take.
        memory: the most bytes of resident memory that an input may add.
        took: seconds of the last input.
        used: bytes of resident memory that the last input added, at most.
    """

    seconds: float = 10.0
    memory: int = 1 << 30
    took: float = 0.0
    used: int = 0
    _breaches: list[str] = field(default_factory=list)
    _folder: str = ""  # empty: switched off

    def __post_init__(self) -> None:
        sys.addaudithook(self._audit)
        signal.signal(signal.SIGALRM, self._too_slow)

    @contextmanager
    def watching(self, folder: Path) -> Iterator[None]:
        """Hold what runs in the block to the promise.

        A reader that cannot be interrupted, as within a library's loop, ends the process after twice the time.

        Args:
            folder: the only place where files may be written.

        Raises:
            Breach: the promise was broken, even if the reader has swallowed the first such error.
        """
        self._breaches.clear()
        before = memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        # A single allocation that is too large fails; one in pieces shows in the peak, even if its failure is caught.
        # Files that are mapped to be read, as poisons are, do not count.
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (memory("VmData") + self.memory * 3 // 2, hard))
        faulthandler.dump_traceback_later(2 * self.seconds, exit=True)
        self._folder, start = os.path.realpath(folder), time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self._folder, self.took = "", time.monotonic() - start
            faulthandler.cancel_dump_traceback_later()
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
            self.used = max(memory("VmHWM") - before, 0)
            if self.used > self.memory:
                self._breaches.append(f"takes more than {self.memory >> 20} MiB of memory")
            if self._breaches:
                raise Breach(self._breaches[0])

    def _too_slow(self, *_: object) -> None:
        self._breach(f"takes more than {self.seconds:g} s")

    def _breach(self, what: str) -> None:
        self._breaches.append(what)
        raise Breach(what)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._folder:
            return
        if event in _PROCESSES:
            self._breach(f"starts a process: {event} {arguments[0] if arguments else ''!a}")
        elif event == "open":
            path, _, flags = arguments
            if flags & _WRITING and not isinstance(path, int) and os.fsdecode(path) != os.devnull:
                self._require_inside(os.path.realpath(path))
        else:
            for place, handle in _CHANGES.get(event, ()):
                if not isinstance(arguments[place], int):
                    self._require_inside(_named(arguments[place], -1 if handle is None else arguments[handle]))

    def _require_inside(self, path: str | bytes) -> None:
        name = os.fsdecode(path)
        if name != self._folder and not name.startswith(f"{self._folder}/"):
            self._breach(f"writes outside its folder: {name!a}")


def _named(path: Any, handle: int) -> str:
    """The absolute path of a name whose own last part may be a link."""
    start = str(Path(f"/proc/self/fd/{handle}").readlink()) if handle >= 0 else ""
    parent, name = os.path.split(os.path.join(start, os.fsdecode(path)))  # noqa: PTH118
    return os.path.join(os.path.realpath(parent), name)  # noqa: PTH118
