"""Keep freed memory in the process: a training step frees and takes the same gigabyte over and over."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_… of malloc.h
_LARGE = 2**31 - 1  # bytes; the largest value mallopt takes


def keep_freed_memory() -> None:
    """Tell glibc's malloc to hand memory out again instead of returning it to the system and asking anew.

    Fresh pages cost a page fault and zeroing each, for a network's activations up to half of a step. Does nothing on
    systems without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _LARGE)
        mallopt(_MMAP_THRESHOLD, _LARGE)
