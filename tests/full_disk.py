"""A disk that is full after a few bytes, as the system tells a program."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def file_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond ``size`` bytes; what writes more meets an OSError of the system."""
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
