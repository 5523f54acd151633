"""All that is printed passes through here: text from files and plug-ins cannot steer the terminal.

Results go to standard output by :func:`show`, and live tables by :func:`terminal`; messages are those of
:mod:`benchmark.core.log`.
"""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

from benchmark.core.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

# Control characters, marks that turn the direction of writing, line and paragraph separators, and surrogates, which no
# encoding can write.
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_USUAL_WIDTH = 80  # characters, which rich takes where it knows no width


def printable(text: object) -> str:
    r"""Text on one line, with ``\x1b``, ``\n``, ``\u202e`` in place of characters that would steer a terminal.

    From DEL upwards they are written as JSON writes them, so that JSON stays what it is.
    """
    return _STEERING.sub(_escape, str(text))


def _escape(found: "re.Match[str]") -> str:
    letter = found[0]
    return repr(letter)[1:-1] if letter < " " else f"\\u{ord(letter):04x}"


def show(*lines: object) -> None:
    """Print lines on standard output, each of them :func:`printable`; nothing once its reader has closed it.

    Raises:
        UsageError: standard output cannot be written to, as on a full disk.
    """
    with _written():
        print(*map(printable, lines), sep="\n", flush=True)  # noqa: T201


def terminal(**settings: Any) -> "Console":
    """Rich's console, for tables and bars; the text in them is made :func:`printable`, its own codes stay.

    On standard error nothing is shown any more once the terminal is gone, and the work goes on.
    """
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Terminal(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
            """Escape the text of every segment; line breaks between segments are rich's own."""
            for segment in super().render(renderable, options):
                text = "\n".join(map(printable, segment.text.split("\n")))
                yield segment if segment.control else Segment(text, segment.style)

    if settings.pop("stderr", False):
        settings["file"] = _Forgiving(sys.stderr)
    console = Terminal(**settings)
    if not console.width:  # COLUMNS=0, as where a width is not known; nothing would be printed
        console.width = _USUAL_WIDTH
    return console


class _Forgiving:
    """A stream that takes what is written to it even if nothing shows it any more, as after a terminal was closed."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of the text, or nothing of it."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As far as there is something to flush to."""
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def whole_output() -> Iterator[None]:
    """Flush standard output when the block ends, even with an error, and report what could not be written.

    Letters that its encoding lacks are printed as escapes.

    Raises:
        UsageError: it is closed or cannot be written to, as on a full disk.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    if sys.stdout is None:
        raise UsageError("standard output is closed")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except BaseException:
        with suppress(OSError, UsageError), _written():
            sys.stdout.flush()
        raise
    with _written():
        sys.stdout.flush()


@contextmanager
def _written() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # What is left in the buffer would fail again, with a traceback, when the interpreter ends.
        with open(os.devnull, "w") as nothing:  # noqa: PTH123
            os.dup2(nothing.fileno(), sys.stdout.fileno())
        # Whoever reads may stop, as head does; the command goes on with its work.
        if not isinstance(error, BrokenPipeError):
            raise UsageError(f"cannot write to standard output: {error.strerror or error}") from error


@contextmanager
def cursor_back_at_sigterm() -> Iterator[None]:
    """While rich hides the terminal's cursor, let SIGTERM show it again before it ends the process."""
    # A process that waits for others runs no handler of Python's until they answer.
    several = (os.environ.get("WORLD_SIZE") or "1") != "1"
    in_main = threading.current_thread() is threading.main_thread()
    if several or not in_main or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def end(number: int, _: object) -> None:
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\x1b[?25h")
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
