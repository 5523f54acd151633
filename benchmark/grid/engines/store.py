"""A store of poisons and checkpoints that all nodes of a cluster reach by a URL, through fsspec."""

import logging
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmark.core.atomic_files import make_folder, replacing
from benchmark.core.errors import UsageError, in_one_line

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LOOKS = 1.0
_MOST_SECONDS_BETWEEN_TRIES = 60.0


class StoreError(UsageError):
    """A file cannot be written to, read or removed from the store. The fault may pass, so the task is tried again."""


@dataclass(frozen=True)
class Store:
    """Files by name below a URL.

    Attributes:
        files: fsspec's file system.
        folder: in it.
    """

    files: Any
    folder: str

    @classmethod
    def at(cls, url: str | None) -> "Store | None":
        """The store at a URL: ``file:///folder``, ``s3://bucket/folder``, ``gs://bucket/folder``.

        Raises:
            UsageError: no such kind of URL, one whose files other processes do not see, or the package that reads it is
                missing.
        """
        if url is None:
            return None
        try:
            import fsspec

            kind, colon, rest = url.partition(":")
            kinds = {*fsspec.available_protocols()} - {"file", "local"}
            # Without the slashes, fsspec would take it for a folder of this machine.
            if colon and kind in kinds and not rest.startswith(("//", ":")):
                raise ValueError(f"a URL has two slashes after its colon, as {kind}://bucket/folder")
            # Other nodes add files and remove them: what was listed before says nothing.
            files, folder = fsspec.core.url_to_fs(url, use_listings_cache=False)
        except Exception as error:  # each kind of store has errors of its own
            raise UsageError(f"--store {url}: {in_one_line(error)}") from error
        if "memory" in files.protocol:
            raise UsageError(f"--store {url}: each process has a memory of its own, so nodes would share no file")
        return cls(files, folder)

    def require_writable(self) -> None:
        """See that files can be kept, before any work.

        Raises:
            StoreError: they cannot, as without the rights or credentials, or in a bucket that does not exist.
        """
        probe = f"{self.folder.rstrip('/')}/probe-{secrets.token_hex(8)}"  # two runs may begin at once
        with self._errors_named():
            self._make_folder()
            self.files.pipe_file(probe, b"")
            self.files.rm_file(probe)

    def fetch(self, path: Path, *, anew: bool = False) -> None:
        """Copy a file from the store to its place here, if the store has it and it is not here.

        Args:
            path: where it belongs.
            anew: copy it even if a file is here: what an earlier run left may be older.

        Raises:
            StoreError: it cannot be copied.
            UsageError: the folder here cannot be written to.
        """
        if (path.is_file() and not anew) or not self.has(path):
            return
        make_folder(path.parent)
        with replacing(path) as temporary, self._errors_named():
            self.files.get_file(self._name(path), str(temporary))

    def keep(self, path: Path) -> None:
        """Copy a file to the store; a reader there finds the whole file or the one before.

        Raises:
            StoreError: it cannot be copied.
        """
        with self._errors_named():
            name = self._name(path)
            if not self.is_folder:  # a bucket shows a file once it is whole
                self.files.put_file(str(path), name)
                return
            self._make_folder()
            part = f"{name}.{secrets.token_hex(8)}.part"  # two nodes may write the same file at once
            try:
                self.files.put_file(str(path), part)
                self.files.mv(part, name)
            except BaseException:
                with suppress(OSError):
                    self.files.rm_file(part)
                raise

    def has(self, path: Path) -> bool:
        """Whether a file of that name is in the store.

        Raises:
            StoreError: it cannot be looked for.
        """
        with self._errors_named():
            return bool(self.files.exists(self._name(path)))

    def clear(self) -> None:
        """Remove the store's folder with all that is in it.

        Raises:
            StoreError: it cannot be removed.
        """
        with self._errors_named():
            if self.files.exists(self.folder):
                self.files.rm(self.folder, recursive=True)

    def discard(self, path: Path) -> None:
        """Remove a file from the store, if it is there.

        Raises:
            StoreError: it cannot be removed.
        """
        with self._errors_named():
            if self.files.exists(self._name(path)):
                self.files.rm_file(self._name(path))

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, of this machine or shared, and no bucket."""
        return "file" in self.files.protocol

    def _make_folder(self) -> None:
        # A bucket has no folders, and "making" one would make a bucket whose name is mistyped.
        if self.is_folder:
            self.files.makedirs(self.folder, exist_ok=True)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # each kind of store has errors of its own
            what = "not found: " if isinstance(error, FileNotFoundError) else ""
            raise StoreError(f"--store {self.folder}: {what}{in_one_line(error)}") from error

    def _name(self, path: Path) -> str:
        return f"{self.folder.rstrip('/')}/{path.name.lstrip('.')}"


@contextmanager
def mirrored(path: Path | None, store: Store | None) -> Iterator[None]:
    """Keep a checkpoint in the store as well: fetched before the block, copied in it when it changes, removed after it.

    After a block that raises, or in which the process dies, the store still has it.
    """
    if path is None or store is None:
        yield
        return
    store.fetch(path, anew=True)
    over = threading.Event()
    # Looked at here, as the block may write before the thread runs.
    copier = threading.Thread(target=_copy_changes, args=(path, _stamp(path), store, over), daemon=True)
    copier.start()
    try:
        yield
    finally:
        over.set()
        copier.join()
    if not path.is_file():  # a stage that is done removes its checkpoint
        try:
            store.discard(path)
        except StoreError as error:  # for which the stage's result must not be lost
            _log.warning("checkpoint %s stays in the store: %s", path.name, error)


def _copy_changes(path: Path, before: tuple[int, int] | None, store: Store, over: threading.Event) -> None:
    ends, pause = False, _SECONDS_BETWEEN_LOOKS
    while not ends:
        ends = over.wait(pause)  # and one more look at the end, as the last second counts too
        if (now := _stamp(path)) is not None and now != before:
            try:
                store.keep(path)
                before, pause = now, _SECONDS_BETWEEN_LOOKS
            except StoreError as error:
                # Told once, and tried less and less often: many cells may meet the same outage.
                if path.is_file() and pause == _SECONDS_BETWEEN_LOOKS:  # else it has just been removed
                    _log.warning("checkpoint %s is not in the store: %s", path.name, error)
                pause = min(2 * pause, _MOST_SECONDS_BETWEEN_TRIES)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns
