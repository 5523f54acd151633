"""An end for what would hang: a test of hostile input fails instead of waiting for ever."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 30  # a command on bad input takes less than one


class Hangs(BaseException):
    """Nothing takes it for an error of a file."""


@contextmanager
def in_no_time() -> Iterator[None]:
    """Raise :class:`Hangs` in what is still at work after half a minute."""

    def stop(*_: object) -> None:
        raise Hangs(f"still at it after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
