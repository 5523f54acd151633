"""Files that replace others: the user's permissions, and on disk before they get their names."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.core.atomic_files import (
    replacing,
    replacing_folder,
    require_unused,
    temporary_folder,
    unfinished_folder,
)
from benchmark.core.errors import UsageError
from tests.attacks.test_poison import made
from tests.small import make_dataset
from tests.tables.factory import record


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("mask", "file", "folder"), [(0o002, 0o664, 0o775), (0o022, 0o644, 0o755), (0o077, 0o600, 0o700)]
)
def test_permissions_follow_the_umask(mask: int, file: int, folder: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        dataset = make_dataset()
        made(dataset).save(tmp_path / "poison")
        with replacing_folder(tmp_path / "export") as temporary:
            (temporary / "captions").write_text("a dog")
        assert mode(record().save(tmp_path)) == file
    finally:
        os.umask(before)
    assert mode(tmp_path / "poison") == file
    assert (mode(tmp_path / "export"), mode(tmp_path / "export" / "captions")) == (folder, file)


@pytest.mark.parametrize("what", ["record", "poison"])
def test_the_file_is_on_disk_before_it_gets_its_name_and_the_name_before_it_counts(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the machine may lose what was not synchronised, and keep the name of a file without its content."""
    steps: list[tuple[str, int, int]] = []
    fsync, replace = os.fsync, os.replace

    def synchronised(handle: int) -> None:
        fsync(handle)
        status = os.fstat(handle)
        steps.append(("fsync", status.st_ino, status.st_size if stat.S_ISREG(status.st_mode) else -1))

    def renamed(self: Path, target: Path) -> Path:
        if not target.name.startswith("."):  # a file of a hidden name is not there yet
            steps.append(("rename", self.stat().st_ino, self.stat().st_size))
        replace(self, target)
        return target

    monkeypatch.setattr(os, "fsync", synchronised)
    monkeypatch.setattr(Path, "replace", renamed)
    path = tmp_path / "poison"
    if what == "record":
        path = record().save(tmp_path)
    else:
        made(make_dataset()).save(path)
    status = path.stat()
    assert steps == [
        ("fsync", status.st_ino, status.st_size),
        ("rename", status.st_ino, status.st_size),
        ("fsync", tmp_path.stat().st_ino, -1),
    ]


def test_a_pipe_stays_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe: it is a device or a pipe"), replacing(tmp_path / "pipe") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "pipe").is_fifo()
    assert list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")

    def fill_the_disk() -> None:
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("new")
            raise OSError("disk full")

    with pytest.raises(UsageError, match="cannot write"):
        fill_the_disk()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


def test_no_folder_is_there_before_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process would take it for a leftover."""
    flock, folders = fcntl.flock, list[Path]()

    def seen(handle: int, how: int) -> None:
        folders.extend(path for path in tmp_path.iterdir() if path.is_dir())
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", seen)
    with pytest.raises(ArithmeticError), temporary_folder(tmp_path, "work"):
        raise ArithmeticError
    assert folders == []
    assert not list(tmp_path.iterdir())


def test_a_folder_is_made_and_removed_where_nothing_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary_folder(tmp_path, "work"), temporary_folder(tmp_path, "work"):
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
    assert not list(tmp_path.iterdir())


def test_a_folder_that_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """The folder of a living process stays."""
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from benchmark.core.atomic_files import temporary_folder\n"
        "with temporary_folder(Path(sys.argv[1]), sys.argv[2]):\n"
        "    print('working', flush=True)\n"
        "    sys.stdin.read()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(
        [*command, "other work"],
        check=False,
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    (left,) = (path for path in tmp_path.iterdir() if path.is_dir())
    (tmp_path / ".others.partial").mkdir()  # not of this suite's making
    with subprocess.Popen(
        [*command, "work"], cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as living:
        assert living.stdout is not None
        assert living.stdout.readline() == b"working\n"
        (tmp_path / ".others.partial").rmdir()
        (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
        assert folder != left
        with temporary_folder(tmp_path, "work") as ours:
            assert {path for path in tmp_path.iterdir() if path.is_dir()} == {folder, ours}
    with temporary_folder(tmp_path, "work"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_beside_which_nothing_can_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before hours of work for it. Root may write anywhere, so the system's answer is a stand-in's."""
    require_unused(tmp_path / "new")
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path)
    with pytest.raises(UsageError, match=rf"cannot write to folder {tmp_path}: no permission"):
        require_unused(tmp_path / "new")


def test_an_unfinished_folder_is_kept_after_an_error_only_if_something_is_in_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be crafted"), unfinished_folder(tmp_path / "out", "0123"):
        raise UsageError("it cannot be crafted")
    assert not list(tmp_path.iterdir())

    def fill_and_fail(folder: Path) -> None:
        (folder / "first").touch()
        raise UsageError("it cannot be read")

    with pytest.raises(UsageError, match="cannot be read"), unfinished_folder(tmp_path / "out", "0123") as folder:
        fill_and_fail(folder)
    with unfinished_folder(tmp_path / "out", "0123") as folder:
        assert [file.name for file in folder.iterdir()] == ["first"]
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


def test_two_runs_do_not_fill_one_folder(tmp_path: Path) -> None:
    """A killed run leaves the lock's file, but not the lock."""
    with (
        unfinished_folder(tmp_path / "out", "0123"),
        pytest.raises(UsageError, match=r"another run is writing .*out\.unfinished-0123"),
        unfinished_folder(tmp_path / "out", "0123"),
    ):
        pass
    shutil.rmtree(tmp_path / "out")
    (tmp_path / ".out.unfinished-0123.lock").touch()
    with unfinished_folder(tmp_path / "out", "0123"):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
