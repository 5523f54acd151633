"""The command line: chooses a command's file, reads its arguments and turns errors into one line and an exit code."""

import argparse
import difflib
import errno
import importlib
import logging
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmark.cli.flags import PRESET_FIELDS, Parser, add_common, preset_in
from benchmark.core.errors import UsageError
from benchmark.core.log import show_messages
from benchmark.core.printing import whole_output
from benchmark.core.spec import require_text
from benchmark.core.version import __version__
from benchmark.grid.presets import Preset

# Each command is a file of this folder with EXAMPLE, add_arguments(parser, preset) and execute(arguments). What it does
# stands here, for the file may take seconds to import.
COMMANDS = {
    "run": "craft poisons, train victims on the protected data, print the table",
    "export": "write protected data as PNG images and captions",
    "protect": "write protected copies of your own captioned photos",
    "verify": "check that an export, protected photos or a stored poison are intact",
    "table": "print a table from records",
    "plot": "draw figures from records",
    "report": "write all tables and figures of some records as one HTML page",
    "list": "list attacks, defenses, victims, data sets, presets, tables or figures",
    "contract": "test an attack or defense against the plug-in contract",
    "submit": "check somebody's records and poisons and add them to the leaderboard",
    "check": "run fresh seeds and compare them with reference records",
    "reproduce": "run all cells of results/PRESET; write tables, figures, report",
}
BAD_INPUT, INTERRUPTED = 2, 130
_SCRIPT = "unlearnable-bench"
_IN_ONE_PROCESS = ("check", "export", "protect", "submit")  # only run and reproduce share work under torchrun
_log = logging.getLogger(__name__)


def build_parser(argv: Sequence[str] = ()) -> Parser:
    """The grammar of the command line.

    Args:
        argv: the arguments. Only the command that they name gets its flags; a preset that they name gives the defaults
            that ``--help`` shows.
    """
    prog = _SCRIPT if Path(sys.argv[0]).stem == _SCRIPT else "python -m benchmark"
    parser = Parser(prog=prog, description="Benchmark multimodal unlearnable examples against defenses.")
    parser.epilog = f"'{prog} COMMAND --help' explains a command."
    parser.add_argument("--version", action="version", version=f"{_SCRIPT} {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")
    asked = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == asked:
            module, preset = importlib.import_module(f"benchmark.cli.{name}"), preset_in(argv)
            command.set_defaults(execute=module.execute)
            module.add_arguments(command, preset)
            add_common(command)
            command.usage = _usage(command)
            command.epilog = f"example:\n  {prog} {module.EXAMPLE}"
            if any(action.dest in PRESET_FIELDS for action in command._actions):
                command.epilog += (
                    f"\n\nDefaults of data, models and training are those of preset {preset.name}. For those of\n"
                    f"another, name it: '{prog} {_of_another_preset(name, preset)} --help'."
                )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if all went well, 1 if cells failed or files are not what they say, 2 for bad input (one line on stderr).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if "_ARGCOMPLETE" in os.environ:
        from benchmark.cli.completion import complete

        complete(build_parser(os.environ.get("COMP_LINE", "").split()))
    show_messages(logging.INFO)
    arguments = argparse.Namespace()
    try:
        with whole_output():
            return _execute(argv, arguments)
    except UsageError as error:
        _log.debug("the error below was raised here", exc_info=True)
        _log.error("%s", error)
        return BAD_INPUT
    except OSError as error:
        if error.filename is None and _in_plugin(error):
            return BAD_INPUT
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise  # of no file: not the user's input
        _log.debug("the error below was raised here", exc_info=True)
        _log.error("%s%s", f"{error.filename}: " if error.filename else "", error.strerror or error)
        return BAD_INPUT
    except (Exception, SystemExit) as error:  # a plug-in may call exit, whose code would be taken for the command's
        if not _in_plugin(error):
            raise  # a fault of the suite
        return BAD_INPUT
    except KeyboardInterrupt:
        # A check that was interrupted draws new seeds, unless it makes the reference anew.
        asked = vars(arguments)
        goes_on = asked.get("command") in ("run", "reproduce", "export", "protect") or asked.get("update")
        goes_on = goes_on and asked.get("rerun") != "all"
        _log.info("interrupted%s", "; the same command goes on where it stopped" if goes_on else "")
        return INTERRUPTED


def _in_plugin(error: BaseException) -> bool:
    """Whether a plug-in raised an error; then it is told."""
    from benchmark.core.plugins import place_in_plugin, told_with_place

    if place_in_plugin(error) is None:
        return False
    _log.debug("the error below was raised here", exc_info=True)
    _log.error("the plugin fails: %s", told_with_place(error))
    return True


def _execute(argv: Sequence[str], arguments: argparse.Namespace) -> int:
    """Read the arguments, into a namespace that the caller has, and run the command."""
    for word in argv:
        require_text(word, "an argument")
        name, *rest = word.split("=", 1) if word.startswith("--") else [word]
        if not word or rest == [""]:
            raise UsageError(f"{name or 'an argument'} is empty; is a variable of the shell not set?")
    # argparse would keep the last value, but a user who repeats a flag wants both.
    flags = Counter(word.partition("=")[0] for word in argv if word.startswith("--") and word != "--")
    for flag, times in flags.items():
        if times > 1 and flag != "--plugin":
            raise UsageError(f"{flag} is given twice; the first would be lost")
    parser = build_parser(argv)
    _, unknown = parser.parse_known_args(argv, arguments)
    if unknown:
        raise UsageError(_unknown_flag(parser, unknown, arguments.command))
    show_messages(_level(arguments))
    if arguments.command in _IN_ONE_PROCESS:
        from benchmark.core.distributed import started_processes

        if started_processes() > 1:
            raise UsageError(f"{arguments.command} runs in one process, without torchrun")
    if arguments.plugin:
        from benchmark.grid.plugins import load_plugins

        load_plugins(arguments.plugin)
    arguments.command_line = f"python -m benchmark {shlex.join(argv)}"
    return arguments.execute(arguments)


def _level(arguments: argparse.Namespace) -> int:
    if arguments.verbose:
        return logging.DEBUG
    # The plan is all that a dry run has to say.
    return logging.ERROR if arguments.quiet and not getattr(arguments, "dry_run", False) else logging.INFO


def _usage(command: argparse.ArgumentParser) -> str:
    """The flags that are needed and the arguments; all others are listed below it anyway."""
    needed = [
        " ".join([*action.option_strings[-1:], str(action.metavar), *(["..."] if action.nargs == "+" else [])])
        for action in sorted(command._actions, key=lambda action: not action.option_strings)
        if action.required
    ]
    return " ".join(["%(prog)s", "[options]", *needed])


def _of_another_preset(command: str, preset: Preset) -> str:
    other = "tiny" if preset.name == "paper" else "paper"
    return f"{command} {other}" if command == "reproduce" else f"{command} --preset {other}"


def _unknown_flag(parser: argparse.ArgumentParser, unknown: Sequence[str], command: str) -> str:
    """The message for arguments that a command does not have, with the flag that was probably meant."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    chosen = commands.choices[command]
    flag = unknown[0].partition("=")[0]
    if flag in chosen._option_string_actions:
        return f"{flag} stands after the command, as in '{chosen.prog} {flag}'"
    flags = chosen._option_string_actions if flag.startswith("--") else ()
    close = difflib.get_close_matches(flag, flags, n=1, cutoff=0.7)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{command} does not know {' '.join(unknown)}; {meant}see '{chosen.prog} --help'"
