"""Flags that several commands share, each defined once: made from the fields of :class:`RunSettings`."""

import argparse
import dataclasses
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark.core.cache_dir import cache_folder, user_path
from benchmark.core.errors import UsageError
from benchmark.core.printing import show
from benchmark.core.registry import convert, unknown
from benchmark.core.spec import format_value
from benchmark.grid.presets import PRESETS, Preset
from benchmark.grid.settings import RunSettings, flag, words_of
from victims.recipe import Recipe

if TYPE_CHECKING:
    from benchmark.figures.sources import ArtifactPaths

RECORDS = Path("results/runs")
ENTRIES = Path("results/leaderboard")
RECIPE = tuple(setting.name for setting in fields(Recipe))
PRESET_FIELDS = ("dataset", "victim", "surrogate", *RECIPE)
"""Settings whose defaults depend on the preset."""


class Parser(argparse.ArgumentParser):
    """argparse with errors as one line, and no abbreviations: ``--seed 3`` is not ``--seeds 3``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        self.color = False  # from Python 3.14 on, help has colours, whose codes would be printed as text

    def error(self, message: str) -> NoReturn:
        """Raise the message as a usage error, which ``main`` prints."""
        raise UsageError(f"{message} (see '{self.prog} --help')")

    def _print_message(self, message: str, file: object = None) -> None:
        """Print help or the version, all that argparse prints, as any result; its own way hides a full disk."""
        show(*message.removesuffix("\n").split("\n"))

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse what is not among the choices, in the words in which registries refuse a name."""
        if action.choices is not None and value not in action.choices:
            kind = action.option_strings[-1] if action.option_strings else str(action.metavar).lower()
            raise argparse.ArgumentError(None, unknown(kind, str(value), list(action.choices)))


def add_settings(
    parser: argparse._ActionsContainer,
    names: Sequence[str],
    preset: Preset,
    *,
    defaults: Mapping[str, object] | None = None,
    meanings: Mapping[str, str] | None = None,
    metavars: Mapping[str, str] | None = None,
) -> None:
    """Add the flags of some fields of :class:`RunSettings`; a flag that is not given is ``None``.

    Args:
        parser: a parser, or a group of one.
        names: fields, in the order of their flags.
        preset: the preset in use, whose values the help shows as defaults.
        defaults: by field, a default of this command that is not the field's own; the help shows it.
        meanings: by field, the help of this command where it differs from that of ``run``.
        metavars: by field, how this command's help names the value where ``run`` names it otherwise.
    """
    hints = typing.get_type_hints(RunSettings)
    by_name = {setting.name: setting for setting in fields(RunSettings)}
    for name in names:
        words, hint = words_of(name), hints[name]
        meaning = (meanings or {}).get(name) or words.meaning + (f", e.g. {words.example}" if words.example else "")
        default = (defaults or {}).get(name, words.default or _default(by_name[name], preset))
        choices = _choices(hint) or (tuple(PRESETS) if name == "preset" else ())
        options: dict[str, Any] = {"default": None}
        if hint is bool:
            options["action"] = "store_true"
        elif name == "plugin":
            options |= {"action": "append", "metavar": words.metavar}
        else:
            named = (metavars or {}).get(name) or words.metavar or _metavar(hint)
            options["metavar"] = "{" + ",".join(choices) + "}" if choices else named
            if default is not None:
                shown = default if isinstance(default, Path | str) else format_value(default)
                meaning += f" (default: {shown})"
        action = parser.add_argument(flag(name), help=meaning.replace("%", "%%"), **options)
        # A wrong choice is refused by the settings, as in a YAML file; these are for completion in a shell.
        vars(action)["suggestions"] = choices


def add_recipe(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Add the flags of a victim's training as a group of their own."""
    add_settings(parser.add_argument_group("training of the victims"), RECIPE, preset)


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add ``--records``, for commands that read what ``run`` wrote."""
    parser.add_argument(
        "--records",
        type=user_path,
        default=RECORDS,
        metavar="DIR",
        help=f"folder of records to read (default: {RECORDS})",
    )


def add_artifacts(parser: argparse.ArgumentParser) -> None:
    """Add the flags that find poisons and images again, for figures of samples."""
    add_settings(
        parser,
        ("poisons", "cache"),
        PRESETS["tiny"],
        meanings={"poisons": "folder of stored poisons, which figure samples shows"},
    )


def artifact_paths(arguments: argparse.Namespace) -> "ArtifactPaths":
    """Where the flags of :func:`add_artifacts` say that poisons and images lie."""
    from benchmark.figures.sources import ArtifactPaths

    cache = cache_named(arguments)
    kept = arguments.poisons not in (None, "off")
    return ArtifactPaths(user_path(arguments.poisons) if kept else cache / "poisons", cache)


def cache_named(arguments: argparse.Namespace) -> Path:
    """The folder that ``--cache`` names, or the usual one."""
    return user_path(arguments.cache) if arguments.cache else cache_folder()


def add_seed(
    parser: argparse.ArgumentParser, default: int | None = 1, meaning: str = "seed of the attack (default: 1)"
) -> None:
    """Add ``--seed``, by default for commands that craft one poison."""
    parser.add_argument("--seed", type=_seed, default=default, metavar="N", help=meaning)


def _seed(text: str) -> int:
    if not 0 <= (seed := int(convert(text, int, "--seed"))) < 2**31:
        raise UsageError(f"--seed takes a seed from 0 to {2**31 - 1}, got {seed}")
    return seed


def settings_of_one_poison(arguments: argparse.Namespace) -> RunSettings:
    """The settings of a run with one attack and one seed, that of :func:`add_seed`, and no defense.

    Raises:
        UsageError: a value of the wrong kind or out of range.
    """
    return RunSettings.from_cli(
        argparse.Namespace(**{**vars(arguments), "out": None, "seeds": f"{arguments.seed},", "defense": "none"})
    )


def add_notes(parser: argparse.ArgumentParser) -> None:
    """Add ``--notes``, for commands that print tables."""
    parser.add_argument(
        "--notes",
        action="store_true",
        help="on a terminal, explain columns and settings below the table; elsewhere notes are always there",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the flags of every command."""
    group = parser.add_argument_group("options of every command")
    add_settings(group, ("plugin",), PRESETS["tiny"])
    loudness = group.add_mutually_exclusive_group()
    loudness.add_argument("-q", "--quiet", action="store_true", help="print results and errors only")
    loudness.add_argument(
        "-v", "--verbose", action="store_true", help="print debugging messages too, and a traceback with every error"
    )


def preset_in(argv: Sequence[str]) -> Preset:
    """The preset that a command line names, or the default one; for help, so an unknown name is the default, too."""
    default = RunSettings().preset
    names = [default]
    for position, word in enumerate(argv):
        if word in ("--preset", "reproduce") and position + 1 < len(argv):
            names.append(argv[position + 1])
        elif word.startswith("--preset="):
            names.append(word.partition("=")[2])
    return PRESETS.get(names[-1], PRESETS[default])


def _default(setting: "dataclasses.Field[Any]", preset: Preset) -> Any:
    if setting.name in RECIPE:
        return getattr(preset.recipe, setting.name)
    if setting.name in PRESET_FIELDS:
        return getattr(preset, setting.name)
    return setting.default


def _choices(hint: Any) -> tuple[str, ...]:
    options = [hint, *typing.get_args(hint)]
    return next((typing.get_args(option) for option in options if typing.get_origin(option) is typing.Literal), ())


def _metavar(hint: Any) -> str:
    kinds = {hint, *typing.get_args(hint)}
    return "N" if int in kinds else "X" if float in kinds else "DIR" if Path in kinds else "TEXT"
