"""Standard output that takes nothing, not all or not every letter, and arguments that are no text: one clear line."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli.main import main
from benchmark.core.cache_dir import cache_folder
from tests.grid.grids import SCENES

ROOT = Path(__file__).parents[2]


def call(*words: str | bytes, to: str = "", **variables: str) -> subprocess.CompletedProcess[bytes]:
    """The real command line, its standard output sent ``to`` a file or, with ``-``, closed."""
    redirect = {"": "", "-": " >&-"}.get(to, f" >{to}")
    return subprocess.run(
        ["sh", "-c", f'exec "$@"{redirect}', "sh", sys.executable, "-m", "benchmark", *words],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("words", [["list", "attacks"], ["--help"], ["list", "presets"], ["--version"]], ids=" ".join)
@pytest.mark.parametrize(("to", "why"), [("/dev/full", "No space left on device"), ("-", "closed")])
def test_output_that_cannot_be_written_is_told_in_one_line(words: list[str], to: str, why: str) -> None:
    done = call(*words, to=to)
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    assert why in line


def test_who_reads_may_close_the_output() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "benchmark", "list", "attacks"]
    done = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_work_goes_on_where_nobody_reads(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    code = (
        "import sys; from pathlib import Path; from benchmark.core.printing import show, whole_output\n"
        "with whole_output():\n    show('first'); show('second'); Path(sys.argv[1]).touch()\nsys.exit(1)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "written")]
    done = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
    assert (tmp_path / "written").is_file()


def test_another_pipe_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, the pipe of a data set that asks another program."""
    monkeypatch.setattr("benchmark.cli.list.execute", _break)
    with pytest.raises(BrokenPipeError):
        main(["list", "attacks"])


def _break(*_: object) -> int:
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_records_are_written_before_output_that_cannot_be(tmp_path: Path) -> None:
    out = tmp_path / "runs"
    flags = ["--attack", "clean", "--defense", "none", "--epochs", "1", "--batch-size", "16", "--quiet"]
    where = ["--out", str(out), "--cache", str(cache_folder()), "--dataset", SCENES]
    done = call("run", "--preset", "micro", *flags, *where, to="/dev/full")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert b"No space left on device" in done.stderr
    assert len(list(out.glob("*.json"))) == 1


def test_letters_that_the_encoding_lacks_are_escaped() -> None:
    done = call("list", "defenses", PYTHONIOENCODING="latin-1")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"none")
    assert rb"\u" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["list", b"caf\xe9"],
        ["table", "2", "--records", b"caf\xe9"],
        ["run", "--attack", "clean", b"--out=caf\xe9"],
        ["verify", b"caf\xe9"],
        ["list", "attacks", "--plugin", b"caf\xe9.py"],
        [b"caf\xe9"],
    ],
)
def test_arguments_that_are_no_utf_8_are_refused_before_any_work(words: list[str | bytes]) -> None:
    done = call(*words)
    assert (done.returncode, done.stdout) == (2, b"")
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("error: an argument is no text in UTF-8: '")
    assert r"caf\udce9" in line
