"""The log of a run for other programs: one JSON object a line for each event."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmark.core.errors import as_usage_error
from benchmark.core.printing import printable


class Events:
    """A file to which every event adds a line; nothing without a file.

    Raises:
        UsageError: the file cannot be written.
    """

    def __init__(self, path: Path | None = None) -> None:
        with as_usage_error(f"--events: cannot write {path}"):
            self._file = None if path is None else path.open("a", encoding="utf-8")

    def tell(self, event: str, **facts: Any) -> None:
        """Add a line: the event, the time in UTC, and what is known of it."""
        if self._file is not None:
            line = {"event": event, "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **facts}
            self._file.write(printable(json.dumps(line, ensure_ascii=False)) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
