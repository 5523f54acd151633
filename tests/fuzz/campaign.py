"""Reading damaged files without end, in a process of its own for each reader, and what came of it."""

import contextlib
import importlib
import multiprocessing
import os
import re
import resource
import shutil
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from benchmark.core import thread_pool
from benchmark.core.errors import UsageError
from tests.fuzz.damage import damaged
from tests.fuzz.guard import Breach, Guard
from tests.fuzz.trees import Odd, Tree, read_tree, write_tree

_ROUND = 300  # examples, after which strategies begin anew
_SHRINKING = 20.0  # seconds for making a failing example small
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.fuzz.readers"])


@dataclass
class Summary:
    """What came of fuzzing a reader.

    Attributes:
        reader: its name.
        examples: inputs that were read.
        refused: of these, those that were refused.
        messages: how often each message was seen, with numbers, names and paths left out.
        slowest: seconds of the slowest input.
        memory: the most bytes of resident memory that an input added.
        failures: broken promises, each with the folder where the input is kept.
    """

    reader: str
    examples: int = 0
    refused: int = 0
    messages: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    memory: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def add(self, other: "Summary") -> None:
        """Add what came of another process."""
        self.examples += other.examples
        self.refused += other.refused
        self.messages = dict(Counter(self.messages) + Counter(other.messages))
        self.slowest, self.memory = max(self.slowest, other.slowest), max(self.memory, other.memory)
        self.failures |= other.failures


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        module: where the reader is in ``READERS``.
        reader: its name.
        folder: for the files that are read, and for inputs that broke the promise.
        start: the seed.
        examples: how many inputs.
        until: time (of ``time.time``) to stop at; ``None`` for none.
        limit: seconds that an input may take.
        memory: bytes of memory that an input may add.
    """

    module: str
    reader: str
    folder: Path
    start: int
    examples: int
    until: float | None = None
    limit: float = 10.0
    memory: int = 1 << 30


def fuzz(job: Job) -> Summary:
    """Fuzz a reader in processes of its own: where one dies, the next one goes on."""
    total = Summary(job.reader)
    while True:
        receiver, sender = _context.Pipe(duplex=False)
        process = _context.Process(target=_child, args=(job, sender), daemon=True)
        process.start()
        sender.close()
        done = False
        with contextlib.suppress(EOFError):
            while not done:
                part, done = receiver.recv()
                total.add(part)
        process.join()
        if not done:
            name = f"died with exit code {process.exitcode}"
            total.failures[name] = str(_keep(job, name))
        if done or job.until is None or time.time() > job.until:
            return total
        job = replace(job, start=job.start + 1)


def _keep(job: Job, name: str) -> Path:
    """Copy the input that was last read to a folder of its own."""
    kept = job.folder / "failures" / re.sub(r"[^\w.-]+", "-", name)[:80]
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(job.folder / "input", kept, symlinks=True, copy_function=_copied, ignore=_odd)
    return kept


def _copied(source: str, target: str) -> None:
    if os.stat(source).st_blocks * 512 <= 1 << 24:  # noqa: PTH116
        shutil.copyfile(source, target) if os.path.getsize(source) <= 1 << 26 else Path(target).touch()  # noqa: PTH202


def _odd(folder: str, names: list[str]) -> list[str]:
    return [
        name for name in names if (path := Path(folder, name)).exists() and not path.is_dir() and not path.is_file()
    ]


def _child(job: Job, sender: Connection) -> None:
    import torch

    torch.set_num_threads(1)
    thread_pool.usable_cpus = lambda: 2  # threads of pools reserve address space
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ["UNLEARNABLE_BENCH_CACHE"] = str(job.folder / "beside" / "cache")
    job.folder.mkdir(parents=True, exist_ok=True)
    silence = os.open(job.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    _Fuzzer(job, sender).run()


class _Fuzzer:
    """The work of a process; it sends what came of every round."""

    def __init__(self, job: Job, sender: Connection) -> None:
        self.job, self.sender = job, sender
        self.reader = importlib.import_module(job.module).READERS[job.reader]
        self.input, self.beside = job.folder / "input", job.folder / "beside"
        self.summary = Summary(job.reader)
        self.failed_at: float | None = None
        self.sizes: dict[str, int] = {}

    def run(self) -> None:
        trees = self._valid()
        self.guard = Guard(self.job.limit, self.job.memory)
        for tree in trees:  # also fills caches of modules before memory and time count
            self._read(tree, valid=True)
        strategy = damaged(trees, self.reader.focus)
        strategy |= strategy.map(self.reader.mend)
        if self.reader.grammar is not None:
            strategy |= self.reader.grammar(trees)
        start, left = self.job.start, self.job.examples
        while left > 0 and not self._is_late():
            self._round(strategy, start, min(left, _ROUND))
            self.sender.send((self.summary, False))
            self.summary = Summary(self.job.reader)
            start, left = start + 1000, left - _ROUND
        self.sender.send((self.summary, True))

    def _valid(self) -> list[Tree]:
        """The valid trees."""
        if not self.beside.exists():
            self.beside.mkdir(parents=True)
            if self.reader.prepare is not None:
                self.reader.prepare(self.beside)
        trees: list[Tree] = []
        for write in self.reader.variants:
            self._empty()
            write(self.input, self.beside)
            trees.append(read_tree(self.input))
        return trees

    def _empty(self) -> None:
        shutil.rmtree(self.input, ignore_errors=True)
        self.input.mkdir(parents=True)

    def _round(self, strategy: st.SearchStrategy[Tree], start: int, examples: int) -> None:
        self.failed_at = None

        @seed(start)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            derandomize=False,
            phases=[Phase.generate, Phase.shrink],
            verbosity=Verbosity.quiet,
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def read(tree: Tree) -> None:
            if self._is_late() or (self.failed_at is not None and time.monotonic() > self.failed_at + _SHRINKING):
                return
            self._read(tree)

        try:
            read()
        except BaseException as error:  # kept by _read already, unless it is Hypothesis's own
            if self.failed_at is None:
                self._failed(error, {})

    def _is_late(self) -> bool:
        return self.job.until is not None and time.time() > self.job.until

    def _read(self, tree: Tree, valid: bool = False) -> None:
        self._empty()
        write_tree(tree, self.input)
        said: Sequence[str] = ()
        try:
            with self.guard.watching(self.input):
                said = self.reader.read(self.input, self.beside)
        except UsageError as error:
            said = [str(error)]
            self.summary.refused += not valid
        except BaseException as error:
            self._failed(error, tree)
            raise
        finally:
            self.summary.slowest = max(self.summary.slowest, self.guard.took)
            self.summary.memory = max(self.summary.memory, self.guard.used)
            self.summary.examples += not valid
        assert not (valid and said), f"a valid input is refused: {said}"
        for line in said:
            pattern = self._pattern(line)
            self.summary.messages[pattern] = self.summary.messages.get(pattern, 0) + 1

    def _failed(self, error: BaseException, tree: Tree) -> None:
        """Keep the smallest input of each kind of failure."""
        self.failed_at = self.failed_at or time.monotonic()
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if isinstance(error, Breach) else f" in {Path(place.filename).name}, {place.name}"
        name = f"{type(error).__name__}{where}: {self._pattern(str(error))}"[:300]
        size = sum(len(content) if isinstance(content, bytes) else 99 for content in tree.values())
        if size <= self.sizes.get(name, size):
            self.sizes[name] = size
            kept = _keep(self.job, name)
            files = {path: one if isinstance(one, Odd) else len(one) for path, one in tree.items()}
            (kept / "tree.txt").write_text(repr(files), errors="backslashreplace")
            (kept / "traceback.txt").write_text("".join(traceback.format_exception(error)), errors="backslashreplace")
            self.summary.failures[name] = str(kept)

    def _pattern(self, line: str) -> str:
        """A message without what differs between inputs: paths, numbers, quoted texts."""
        line = re.sub(r"'[^']*'|\"[^\"]*\"|[^\s:,]*/[^\s:,]*", "…", line[:2000])
        line = re.sub(r"-?\d[\d.,]*(e[+-]?\d+)?", "#", line)
        return re.sub(r"[^\x20-\x7e…✗ε×≤]+", "?", line)[:160]
