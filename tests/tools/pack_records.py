"""Put the finished records of folders into a file each: ``python -m tests.tools.pack_records results/tiny/records``."""

import sys
from pathlib import Path

from benchmark.grid.records import PACK, pack_records


def main(folders: list[str]) -> None:
    """Pack folders and say what they hold then."""
    for folder in map(Path, folders):
        print(f"{folder / PACK}: {pack_records(folder)} records")


if __name__ == "__main__":
    main(sys.argv[1:])
