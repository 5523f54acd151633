"""YAML files of keys with a value or a list each, which anyone may have written."""

from pathlib import Path
from typing import Any

import yaml

from benchmark.core.errors import UsageError, in_one_line
from benchmark.core.reading import read_text

_LARGEST = 2**16  # bytes
_DEEPEST = 2  # a list below a key


class _AsWritten(yaml.SafeLoader):
    """Reads every value as text; only no value and an unquoted ``~``, ``null``, ``Null`` or ``NULL`` give ``None``.

    YAML 1.1 would make 1.1 of 1.10, 8 of 010, 750 of 12:30 and true of on, so that a value would mean something else in
    a file than after a flag.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (as in the class above it)
        first: [one for one in resolvers if one[0] == "tag:yaml.org,2002:null"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_flat_yaml(path: Path) -> dict[str, Any]:
    """The keys of a YAML file with their values: texts, lists of texts, or ``None``. An empty file has no keys.

    Raises:
        UsageError: the file cannot be read, is larger than 64 KiB, nested, or has a tag, an alias or a key twice.
    """
    try:
        text = read_text(path, _LARGEST)
        _require_flat(text)
        _require_names(text)
        data = yaml.load(text, Loader=_AsWritten) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or in_one_line(error)}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected keys and values, got {type(data).__name__}")
    return data


def _require_names(text: str) -> None:
    """Require that the keys of a mapping are texts, each there once.

    Raises:
        ValueError: a key is empty or a list, or is there twice.
    """
    node = yaml.compose(text, Loader=_AsWritten)
    keys = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    for number, key in enumerate(keys):
        if key.tag != "tag:yaml.org,2002:str":
            raise ValueError(f"line {key.start_mark.line + 1} has a key that is no text")
        if key.value in [other.value for other in keys[:number]]:
            raise ValueError(f"{key.value!a} is there twice")


def _require_flat(text: str) -> None:
    """Require a mapping to scalars or lists of scalars: what is nested, or repeated by aliases, may grow without end.

    Raises:
        ValueError: it is nested more deeply, or has an alias or a tag.
        yaml.YAMLError: not YAML.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        where = f"line {event.start_mark.line + 1}" if event.start_mark else "it"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise ValueError(f"{where} is nested too deeply")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "tag", None):
            raise ValueError(f"{where} has an alias or a tag, which have no use here")
