"""Put the finished records of folders into a file each: ``python -m tests.tools.pack_records results/tiny/records``."""

import gzip
import sys
from pathlib import Path

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.grid.records import MOST_PACKED, PACK, load_records


def pack_records(folder: Path) -> int:
    """Move all finished records of a folder into its pack, sorted by file name; returns how many it holds then.

    No run may write into the folder meanwhile.

    Raises:
        UsageError: see :func:`load_records`; or the folder cannot be written to, or holds more than a pack may.
    """
    done = {record.file_name(): record for record in load_records(folder) if record.status == "done"}
    if not done:
        return 0
    content = "".join("{" + ",".join(record.json_fields()) + "}\n" for record in done.values()).encode()
    if len(content) > MOST_PACKED:
        raise UsageError(f"{folder} holds more records than a pack may, which is {MOST_PACKED >> 20} MiB of text")
    # No name and no time in it: the same records make the same file.
    with (
        replacing(folder / PACK) as temporary,
        temporary.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as pack,
    ):
        pack.write(content)
    for name in done:
        (folder / name).unlink(missing_ok=True)
    return len(done)


def main(folders: list[str]) -> None:
    """Pack folders and say what they hold then."""
    for folder in map(Path, folders):
        print(f"{folder / PACK}: {pack_records(folder)} records")


if __name__ == "__main__":
    main(sys.argv[1:])
