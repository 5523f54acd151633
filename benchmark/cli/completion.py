"""Completion in bash, zsh and fish, by argcomplete: commands, flags, choices, and the names that ``list`` lists."""

import argparse
from collections.abc import Callable, Iterator

import argcomplete

from benchmark.cli.list import names_of

_LISTS = {
    "attack": "attacks", "defense": "defenses", "dataset": "datasets", "against": "datasets", "victim": "victims",
    "surrogate": "victims", "through": "defenses",
}  # fmt: skip


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, which asks through environment variables, and leave."""
    for action in _all_actions(parser):
        if action.dest in _LISTS:
            vars(action)["completer"] = _last_name(_LISTS[action.dest])
        elif action.dest == "spec":
            vars(action)["completer"] = lambda parsed_args, **_: names_of(f"{parsed_args.kind}s")
        elif choices := vars(action).get("suggestions"):
            vars(action)["completer"] = argcomplete.ChoicesCompleter(choices)
    argcomplete.autocomplete(parser)


def _last_name(kind: str) -> Callable[..., list[str]]:
    """Completes the last name of ``clean,mem3`` or ``cutout+mixup``.

    The names come from the classes, whose import takes a second or more, so only when they are asked for.
    """

    def completions(prefix: str, **_: object) -> list[str]:
        if prefix.count("[") > prefix.count("]"):  # within parameters, which are not names
            return []
        before = prefix[: max(prefix.rfind(","), prefix.rfind("+")) + 1]
        return [before + name for name in names_of(kind)]

    return completions


def _all_actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _all_actions(command)
