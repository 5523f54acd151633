"""The command line: chooses a command's file, reads its arguments and turns errors into one line and an exit code."""

import argparse
import difflib
import importlib
import sys
import traceback
from collections.abc import Sequence

from benchmark.cli.flags import Parser, add_settings, preset_in
from benchmark.core.errors import UsageError
from benchmark.core.version import __version__

# Each command is a file of this folder with EXAMPLE, add_arguments(parser, preset) and execute(arguments, argv). What
# it does stands here, for the file may take seconds to import.
COMMANDS = {
    "run": "craft poisons, train victims, print the table",
    "export": "write protected data as PNG images and captions",
    "verify": "verify an export or a stored poison",
    "table": "print a table from records",
    "plot": "draw figures from records",
    "report": "write all tables and figures of some records as one HTML page",
    "list": "list attacks, defenses, victims, data sets, presets, tables or figures",
    "contract": "test an attack or defense against the plug-in contract",
    "check": "run fresh seeds of preset micro and compare them with reference records",
    "reproduce": "run every cell of the paper's tables and write tables, figures and the report",
}
SUCCESS, BAD_INPUT, INTERRUPTED = 0, 2, 130


def build_parser(argv: Sequence[str] = ()) -> Parser:
    """The grammar of the command line.

    Args:
        argv: the arguments. Only the command that they name gets its flags; a preset that they name gives the defaults
            that ``--help`` shows.
    """
    parser = Parser(prog="python -m benchmark", description="Multimodal unlearnable examples against defenses.")
    parser.add_argument("--version", action="version", version=f"unlearnable-bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=Parser, metavar="COMMAND")
    asked = next((word for word in argv if word in COMMANDS), None)
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == asked:
            module, preset = importlib.import_module(f"benchmark.cli.{name}"), preset_in(argv)
            command.epilog = f"example:\n  {module.EXAMPLE}"
            command.set_defaults(execute=module.execute)
            module.add_arguments(command, preset)
            add_settings(command, ("plugin",), preset)
            command.add_argument("--debug", action="store_true", help="show a traceback with every error")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if all went well, 1 if cells failed or files are not what they say, 2 for bad input (one line on stderr).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        parser = build_parser(argv)
        arguments, unknown = parser.parse_known_args(argv)
        if unknown:
            raise UsageError(_unknown_flag(parser, unknown, arguments.command))
        if arguments.plugin:
            from benchmark.grid.plugins import load_plugins

            load_plugins(arguments.plugin)
        code: int = arguments.execute(arguments, argv)
        return code
    except UsageError as error:
        if "--debug" in argv:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        return SUCCESS
    except KeyboardInterrupt:
        # A check that was interrupted draws new seeds.
        goes_on = argv[:1] != ["check"] or "--update" in argv
        print(f"interrupted{'; the same command goes on where it stopped' if goes_on else ''}", file=sys.stderr)
        return INTERRUPTED


def _unknown_flag(parser: argparse.ArgumentParser, unknown: Sequence[str], command: str) -> str:
    """The message for arguments that a command does not have, with the flag that was probably meant."""
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    chosen = commands.choices[command]
    flag = unknown[0].partition("=")[0]
    flags = chosen._option_string_actions if flag.startswith("--") else ()
    close = difflib.get_close_matches(flag, flags, n=1, cutoff=0.7)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{command} does not know {' '.join(unknown)}; {meant}see '{chosen.prog} --help'"
