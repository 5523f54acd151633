"""Readers that break the promise, each in its own way: the guard has to notice, also where the reader hides it."""

import contextlib
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmark.core.errors import UsageError
from tests.fuzz.readers import Reader


def _raise(_: Path) -> None:
    raise KeyError("epochs")


def _sleep(_: Path) -> None:
    time.sleep(60)


def _loop_in_a_thread(_: Path) -> None:
    pool = ThreadPoolExecutor()
    try:
        pool.submit(time.sleep, 60).result()
    finally:
        pool.shutdown()


def _wait_for_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with contextlib.suppress(BaseException):
        (folder / "pipe").read_bytes()


def _allocate(_: Path) -> None:
    with contextlib.suppress(MemoryError):
        b"\1" * (80 << 20)


def _allocate_too_much(_: Path) -> None:
    bytearray(1 << 50)


def _fill_memory(_: Path) -> None:
    parts = []
    with contextlib.suppress(MemoryError):
        for _number in range(40):
            parts.append(b"\1" * (8 << 20))


def _write(folder: Path) -> None:
    (folder.parent / "outside").write_bytes(b"")


def _write_through_a_link(folder: Path) -> None:
    (folder / "link").symlink_to("../outside")
    (folder / "link").write_bytes(b"")


def _write_and_hide_it(folder: Path) -> None:
    with contextlib.suppress(BaseException):
        (folder.parent / "outside").mkdir()


def _rename(folder: Path) -> None:
    (folder / "a").rename(folder.parent / "outside")


def _run(_: Path) -> None:
    subprocess.run(["true"], check=True)


def _run_in_a_shell(_: Path) -> None:
    os.system("true")


def _spawn(_: Path) -> None:
    os.posix_spawn("/bin/true", ["true"], {})


def _execute(_: Path) -> None:
    os.execv("/bin/true", ["true"])


def _fork(_: Path) -> None:
    if not os.fork():
        os._exit(0)


def _die(_: Path) -> None:
    os.abort()


def _refuse(_: Path) -> None:
    raise UsageError("not a file of this kind")


def _write_inside(folder: Path) -> None:
    (folder / "inner").mkdir()
    (folder / "inner" / "b").write_bytes(b"")
    (folder / "inner" / "b").rename(folder / "c")


BAD: dict[str, tuple[Callable[[Path], None], str]] = {
    "traceback": (_raise, "KeyError in planted.py, _raise"),
    "hang": (_sleep, "takes more than # s"),
    "hang in a thread": (_loop_in_a_thread, "died with exit code 1"),
    "hang at a pipe": (_wait_for_a_pipe, "takes more than # s"),
    "memory": (_allocate, "takes more than # MiB of memory"),
    "memory at once": (_allocate_too_much, "MemoryError in planted.py"),
    "memory in pieces": (_fill_memory, "takes more than # MiB of memory"),
    "file outside": (_write, "writes outside its folder"),
    "file behind a link": (_write_through_a_link, "writes outside its folder"),
    "folder outside": (_write_and_hide_it, "writes outside its folder"),
    "file moved out": (_rename, "writes outside its folder"),
    "process": (_run, "starts a process: subprocess.Popen"),
    "shell": (_run_in_a_shell, "starts a process: os.system"),
    "spawned process": (_spawn, "starts a process: os.posix_spawn"),
    "another program": (_execute, "starts a process: os.exec"),
    "fork": (_fork, "starts a process: os.fork"),
    "crash": (_die, "died with exit code -6"),
}
"""What a reader does with a file that does not begin as a valid one, and what is said of it."""
GOOD: dict[str, Callable[[Path], None]] = {"refused": _refuse, "file inside": _write_inside}


def _make(folder: Path, _: Path) -> None:
    (folder / "a").write_bytes(b"a")


def _read(folder: Path, _: Path, deed: Callable[[Path], None]) -> list[str]:
    file = folder / "a"
    if file.is_file() and file.stat().st_size < 100 and file.read_bytes()[:1] != b"a":
        deed(folder)
    return []


READERS = {name: Reader([_make], partial(_read, deed=deed)) for name, (deed, _) in BAD.items()}
READERS |= {name: Reader([_make], partial(_read, deed=deed)) for name, deed in GOOD.items()}
