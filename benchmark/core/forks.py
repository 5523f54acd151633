"""Independent iterations of a loop, done in this process and in forks of it."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection, wait
from typing import TypeVar

import torch

from benchmark.core.idle_cpus import tell_idle_cpus

T = TypeVar("T")
R = TypeVar("R")
_SIGNAL_AT_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of Linux, the only system on which anything forks here


def in_any_order(function: Callable[[T], R], items: Sequence[T], forks: int) -> Generator[tuple[int, R]]:
    """Yield pairs of an item's number and ``function(item)``, in the order in which items finish.

    The items are divided evenly among this process and its forks. A fork starts with the present state of this
    process; its changes to that state are lost. Items that a fork does not finish are done in this process, so that
    errors are raised here.

    Args:
        function: its results can be pickled, and do not depend on which items came before.
        items: the arguments of the calls.
        forks: largest number of forks. None are made where forking is unsafe: outside Linux, and where torch computes
            with several threads or finds a GPU.
    """
    forks = max(0, min(forks, len(items) - 1)) if _is_safe() else 0
    parts = [list(range(first, len(items), forks + 1)) for first in range(forks + 1)]
    with ExitStack() as stack:
        links: dict[Connection, list[int]] = {}
        for part in parts[1:]:
            links[_forked(function, items, part, list(links), stack)] = part
        mine = parts[0]
        while mine or links:
            if mine:
                yield (number := mine.pop(0)), function(items[number])
            for link in wait(list(links), timeout=None if links and not mine else 0):
                assert isinstance(link, Connection)
                try:
                    number, result = link.recv()
                except (EOFError, OSError):  # OSError: it ended while it sent a result
                    mine += links.pop(link)
                else:
                    links[link].remove(number)
                    yield number, result


def _is_safe() -> bool:
    return sys.platform == "linux" and torch.get_num_threads() == 1 and not torch.cuda.is_available()


def _forked(
    function: Callable[[T], R], items: Sequence[T], part: list[int], others: list[Connection], stack: ExitStack
) -> Connection:
    """Start a fork that does a part of the items; it ends with the stack."""
    link, theirs = Pipe(duplex=False)
    process = get_context("fork").Process(
        target=_do, args=(os.getpid(), function, items, part, theirs, [link, *others]), daemon=True
    )
    with theirs:
        process.start()
    stack.callback(process.join)
    stack.callback(process.kill)
    stack.callback(link.close)
    return link


def _do(
    parent: int,
    function: Callable[[T], R],
    items: Sequence[T],
    part: list[int],
    link: Connection,
    inherited: list[Connection],
) -> None:
    # A fork has its parent's locks and sockets, and would hold them until its item is done if the parent were killed.
    ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, signal.SIGKILL)
    if os.getppid() != parent:  # killed before the line above, which then asked for the signal of another process
        return
    for other in inherited:  # else a fork would not notice that the process that reads is gone
        other.close()
    tell_idle_cpus(0)  # it has one of them, and no second thread
    with suppress(Exception):  # the process that reads does the rest, and meets the error itself
        for number in part:
            link.send((number, function(items[number])))
