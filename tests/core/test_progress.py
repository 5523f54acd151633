"""Progress in a log: the share that is done and the time left, of a stage and of the run that it belongs to."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from benchmark.core import progress
from benchmark.core.printing import cursor_back_at_sigterm
from benchmark.core.progress import clock, roughly, stage, tracked
from benchmark.core.time_left import Task, TimeLeft
from tests.watchdog import in_no_time


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_line_now_and_then_with_the_time_left(seconds: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with stage("crafting", 100) as shown:
        for number in range(1, 51):
            seconds[0] = 3.0 * number
            shown.advance("loss 1.00" if number == 1 else "")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 7  # one every 21 s of the 150
    assert lines[0] == "crafting: 7 %, 4 min 39 s left  loss 1.00"  # 93 units of 3 s


def test_what_an_earlier_run_did_is_counted_but_not_timed(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with stage("training", 100) as shown:
        shown.resume(50)
        seconds[0] = 30.0
        shown.advance()
    assert capsys.readouterr().err == "training: 51 %, 24 min 30 s left  \n"


def test_steps_that_cost_more_weigh_more_and_the_run_is_told_beside_the_stage(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    tasks = {"poison": Task("craft", np.array([10.0, 30.0, 60.0])), "victim": Task("train", np.full(5, 20.0))}
    time_left = TimeLeft(tasks)
    with stage("crafting", 3, time_left, "poison") as shown:
        seconds[0] = 20.0
        shown.advance()
        seconds[0] = 80.0
        shown.advance()
        seconds[0] = 200.0
        shown.advance()
    with stage("training", 5, time_left, "victim") as shown:
        seconds[0] = 240.0
        shown.advance()
    lines = [line.rstrip() for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        "crafting: 10 %, 3 min 00 s left (run: 6 min 20 s)",  # twice as slow as expected: 2 × 90 s and 2 × 100 s
        "crafting: 40 %, 2 min 00 s left (run: 5 min 20 s)",
        "crafting: 100 %, 0 s left (run: 3 min 20 s)",
        "training: 20 %, 2 min 40 s left",
    ]


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_worker_draws_no_bar_on_the_terminal_of_the_process_that_shows_all(
    elsewhere: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Worker(TimeLeft):
        is_shown_elsewhere = elsewhere

    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with stage("crafting", 2, Worker()) as shown:
        shown.advance()
    drawn = capsys.readouterr().err
    assert ("\x1b" in drawn) != elsewhere


def test_preparing_data_tells_its_progress_too(seconds: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    for item in tracked(range(3), "painting"):
        seconds[0] = 25.0 * (item + 1)
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r" +$", "", line) for line in lines] == [
        "painting: 33 %, 50 s left",
        "painting: 66 %, 25 s left",
        "painting: 100 %, 0 s left",
    ]
    assert list(tracked(iter("ab"), "reading", total=2)) == ["a", "b"]


@pytest.mark.parametrize(
    ("duration", "text"), [(47.4, "47 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (7830, "2 h 10 min")]
)
def test_clock(duration: float, text: str) -> None:
    assert clock(duration) == text


@pytest.mark.parametrize(
    ("duration", "text"),
    [(1, "5 s"), (47.4, "45 s"), (92, "2 min"), (725, "12 min"), (9000, "2.5 h"), (144_100, "40 h")],
)
def test_an_estimate_is_rounded(duration: float, text: str) -> None:
    assert roughly(duration) == text


def test_processes_that_wait_for_each_other_keep_the_systems_own_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler of Python's would wait for them, too."""
    monkeypatch.setenv("WORLD_SIZE", "1")
    with cursor_back_at_sigterm():
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    monkeypatch.setenv("WORLD_SIZE", "2")
    with cursor_back_at_sigterm():
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("gone", [False, True], ids=["terminal", "terminal that is gone"])
def test_sigterm_gives_the_cursor_back_that_the_bar_has_hidden(gone: bool) -> None:
    code = (
        "import os, time; from benchmark.core.log import show_messages; from benchmark.core.progress import stage\n"
        "show_messages(20)\n"
        "with stage('training', 3) as shown:\n"
        "    shown.advance(); os.write(1, b'ready\\n'); time.sleep(60)"
    )
    terminal, stderr = os.openpty()
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=stderr)
    os.close(stderr)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    if gone:
        os.close(terminal)
    process.send_signal(signal.SIGTERM)
    with in_no_time():
        assert process.wait() == -signal.SIGTERM
    if gone:
        return
    said = b""
    with suppress(OSError):  # the other end is closed
        while part := os.read(terminal, 4096):
            said += part
    os.close(terminal)
    assert said.rindex(b"\x1b[?25h") > said.rindex(b"\x1b[?25l")


def test_work_goes_on_where_the_terminal_is_closed(tmp_path: Path) -> None:
    code = f"""if True:
        import os, pty
        terminal, mine = pty.openpty()
        os.dup2(mine, 2)
        os.close(mine)
        from pathlib import Path
        from benchmark.core.log import show_messages
        from benchmark.core.progress import stage
        show_messages()
        with stage("crafting", 4) as shown:
            for number in range(4):
                shown.advance()
                if number == 1:
                    os.close(terminal)
        Path({str(tmp_path / "done")!r}).touch()
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert (tmp_path / "done").exists()
