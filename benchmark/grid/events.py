"""The log of a run for other programs: one JSON object a line for each event."""

import json
import logging
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.core.errors import as_usage_error
from benchmark.core.printing import printable

_log = logging.getLogger(__name__)


class Events:
    """A file to which every event adds a line; nothing without a file.

    A file that takes no more lines, such as a pipe that nobody reads any longer, ends no run: a warning names it.

    Raises:
        UsageError: the file cannot be opened.
    """

    def __init__(self, path: Path | None = None) -> None:
        with as_usage_error(f"--events: cannot write {path}"):
            self._file = None if path is None else path.open("a", encoding="utf-8")

    def tell(self, event: str, **facts: Any) -> None:
        """Add a line: the event, the time in UTC, and what is known of it."""
        if self._file is None:
            return
        line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
        try:
            self._file.write(printable(json.dumps(line, ensure_ascii=False)) + "\n")
            self._file.flush()
        except OSError as error:
            _log.warning("--events: %s takes no more lines: %s", self._file.name, error.strerror or error)
            self.close()

    def close(self) -> None:
        """Close the file."""
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # of a line that it does not take either
                file.close()
