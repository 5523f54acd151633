"""Finding the tar shards that a spec names by a path, a glob, or braces as in a shell."""

import re
from pathlib import Path

from benchmark.core.cache_dir import user_path
from benchmark.core.errors import UsageError

_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{}]*,[^{}]*))\}")
_MOST = 100_000  # shards that a spec may name


def find_shards(spec: str) -> list[Path]:
    """The files that ``spec`` names, each once: in the order of its braces, and sorted by name within a glob.

    Args:
        spec: ``a.tar``, ``train-*.tar``, ``train-{00000..00012}.tar``, ``{a,b}/train.tar``, or a mixture.

    Raises:
        UsageError: a file does not exist, a glob matches nothing, or braces name too many files.
    """
    shards: list[Path] = []
    for text in expand_braces(spec):
        path = user_path(text)
        try:
            shards += _files(path)
        except (OSError, ValueError) as error:
            raise UsageError(f"cannot look for shard {path}: {error}") from error
    return list(dict.fromkeys(shards))


def expand_braces(text: str) -> list[str]:
    """The texts that ``{00..12}`` and ``{a,b}`` stand for; other braces stay as they are.

    Raises:
        UsageError: a range runs backwards, or there are more than 100,000 texts.
    """
    texts, rest = [""], text
    while match := _BRACES.search(rest):
        first, last, choices = match.groups()
        options = choices.split(",") if choices else _range(first, last, text)
        if len(texts) * len(options) > _MOST:
            raise UsageError(f"'{text}' names more than {_MOST:,} shards")
        texts = [head + rest[: match.start()] + option for head in texts for option in options]
        rest = rest[match.end() :]
    return [head + rest for head in texts]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if path.exists():
        raise UsageError(f"shard {path} is not a file; for all shards in a folder write {path}/*.tar")
    if not any(character in str(path) for character in "*?["):
        raise UsageError(f"shard {path} does not exist")
    matches = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
    if shards := sorted(match for match in matches if match.is_file()):
        return shards
    raise UsageError(f"no shard matches {path}")


def _range(first: str, last: str, text: str) -> list[str]:
    if not 0 <= int(last) - int(first) < _MOST:
        raise UsageError(f"'{text}': {{{first}..{last}}} must count upwards, to at most {_MOST:,} shards")
    # As in a shell, numbers written with leading zeros keep their width.
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    return [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
