"""Flags that several commands share, each defined once: made from the fields of :class:`RunSettings`."""

import argparse
import dataclasses
import typing
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from benchmark.core.errors import UsageError
from benchmark.core.spec import format_value
from benchmark.grid.presets import PRESETS, Preset
from benchmark.grid.settings import RunSettings, flag, setting_names, words_of
from victims.recipe import Recipe

RECORDS = Path("results/runs")
RECIPE = tuple(setting.name for setting in fields(Recipe))


class Parser(argparse.ArgumentParser):
    """argparse with errors as one line, and no abbreviations: ``--seed 3`` is not ``--seeds 3``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": argparse.RawDescriptionHelpFormatter, **settings})

    def error(self, message: str) -> NoReturn:
        """Raise the message as a usage error, which ``main`` prints."""
        raise UsageError(f"{message} (see '{self.prog} --help')")


def add_settings(parser: argparse._ActionsContainer, names: Sequence[str], preset: Preset, **defaults: object) -> None:
    """Add the flags of some fields of :class:`RunSettings`; a flag that is not given is ``None``.

    Args:
        parser: a parser, or a group of one.
        names: fields, in the order of their flags.
        preset: the preset in use, whose values the help shows as defaults.
        defaults: by field, a default of this command that is not the field's own; the help shows it.
    """
    hints = typing.get_type_hints(RunSettings)
    by_name = {setting.name: setting for setting in fields(RunSettings)}
    for name in names:
        setting = by_name[name]
        words, example = words_of(name)
        if example:
            words += f", e.g. {example}"
        default = defaults.get(name, _default(setting, preset))
        options: dict[str, Any] = {"default": None, "dest": name}
        if hints[name] is bool:
            options["action"] = "store_true"
        elif name == "plugin":
            options |= {"action": "append", "metavar": "FILE"}
        else:
            choices = _choices(hints[name]) or (tuple(PRESETS) if name == "preset" else None)
            # A wrong choice is refused by the settings, whose message names what was probably meant.
            options["metavar"] = "{" + ",".join(choices) + "}" if choices else _metavar(hints[name])
            if default is not None:
                shown = default if isinstance(default, Path | str) else format_value(default)
                whose = f", preset {preset.name}" if name in (*RECIPE, "dataset", "victim", "surrogate") else ""
                words += f" (default: {shown}{whose})"
        parser.add_argument(flag(name), help=words.replace("%", "%%"), **options)


def add_recipe(parser: argparse.ArgumentParser, preset: Preset) -> None:
    """Add the flags of a victim's training as a group of their own."""
    add_settings(parser.add_argument_group("the victims' training"), RECIPE, preset)


def add_records(parser: argparse.ArgumentParser) -> None:
    """Add ``--records``, for commands that read what ``run`` wrote."""
    parser.add_argument(
        "--records", type=Path, default=RECORDS, metavar="DIR", help=f"folder of records (default: {RECORDS})"
    )


def add_artifacts(parser: argparse.ArgumentParser) -> None:
    """Add the flags that find poisons and images again, for figures of samples."""
    parser.add_argument(
        "--poisons", type=Path, metavar="DIR", help="folder of poisons, for samples (default: in the cache)"
    )
    add_settings(parser, ("cache",), PRESETS["tiny"])


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
    if setting.name in ("dataset", "victim", "surrogate"):
        return getattr(preset, setting.name)
    return setting.default or None


def _choices(hint: Any) -> tuple[str, ...]:
    options = [hint, *typing.get_args(hint)]
    return next((typing.get_args(option) for option in options if typing.get_origin(option) is typing.Literal), ())


def _metavar(hint: Any) -> str:
    kinds = {hint, *typing.get_args(hint)}
    return "N" if int in kinds else "X" if float in kinds else "PATH" if Path in kinds else "TEXT"


def all_settings_but(*names: str) -> list[str]:
    """The fields of :class:`RunSettings` without the recipe's and the named ones."""
    return [name for name in setting_names() if name not in (*RECIPE, *names)]
