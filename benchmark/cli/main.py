"""The command line. It only reads arguments and prints; the work is elsewhere."""

import argparse
import dataclasses
import difflib
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from benchmark import __version__
from benchmark.core.errors import UsageError
from victims.recipe import Recipe

if TYPE_CHECKING:
    from benchmark.figures import ArtifactPaths

_FORMATS = ("folder", "csv", "karpathy", "webdataset", "imagefolder")
SUCCESS, CELLS_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
DEVIATION = 1


class _Parser(argparse.ArgumentParser):
    """argparse with errors as one line, and no abbreviations: ``--seed 3`` is not ``--seeds 3``."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **settings})

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see '{self.prog} --help')")


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line. Defaults are ``None``: they live in presets and signatures."""
    return _parsers()[0]


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of the whole, and that of each command."""
    parser = _Parser(prog="python -m benchmark", description="Multimodal unlearnable examples against defenses.")
    parser.add_argument("--version", action="version", version=f"unlearnable-bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser, metavar="COMMAND")
    _add_run(commands)
    _add_export(commands)
    _add_verify(commands)
    _add_table(commands)
    _add_plot(commands)
    _add_report(commands)
    _add_list(commands)
    _add_contract(commands)
    _add_check(commands)
    _add_reproduce(commands)
    for command in commands.choices.values():
        command.add_argument(
            "--plugin",
            type=Path,
            action="append",
            default=[],
            help="Python file with attacks, defenses or data sets of your own; may be given several times",
        )
        command.add_argument("--debug", action="store_true", help="show a traceback with every error")
    return parser, dict(commands.choices)


def _not_understood(strangers: Sequence[str], command: str) -> str:
    """The message for arguments that a command does not have, with the flag that was probably meant."""
    parser = _parsers()[1][command]
    flag = strangers[0].partition("=")[0]
    flags = parser._option_string_actions if flag.startswith("--") else ()
    close = difflib.get_close_matches(flag, flags, n=1, cutoff=0.7)
    meant = f"did you mean '{close[0]}'? " if close else ""
    return f"{command} does not know {' '.join(strangers)}; {meant}see '{parser.prog} --help'"


def _add_run(commands: "argparse._SubParsersAction[_Parser]") -> None:
    run = commands.add_parser("run", help="craft poisons, train victims, print the table")
    run.add_argument("--attack", help="attacks, comma-separated, e.g. clean,em,mem[k=3,rounds=8] (default mem3)")
    run.add_argument("--defense", help="defenses, comma-separated; table2 (default), all; composed with +")
    run.add_argument("--dataset", help="data set, e.g. scenes, csv[train=a.csv,test=b.csv]")
    run.add_argument(
        "--skip-bad", action="store_true", default=None, help="leave out images that cannot be read, and list them"
    )
    run.add_argument("--victim", help="victims, comma-separated, e.g. tiny, RN50, ViT-B-32[pretrained=FILE]")
    run.add_argument("--surrogate", help="the model that crafts poisons")
    run.add_argument("--seeds", help="how many (default 1; 3: seeds 1, 2, 3) or which (4,7 or 4,)")
    run.add_argument("--preset", help="named set of values: tiny (default), micro or paper")
    run.add_argument("--config", type=Path, help="YAML file with the same keys as these flags (--plugin aside)")
    run.add_argument("--out", type=Path, help="folder for records (default results/runs)")
    run.add_argument("--device", help="auto (default), cpu, cuda, cuda:1 …")
    run.add_argument("--poisons", help="folder that keeps poisons (default: in the cache), or 'off' to craft anew")
    run.add_argument("--cache", type=Path, help="folder for rendered and resized images")
    run.add_argument("--rerun", choices=("missing", "failed", "all"), help="which cells to run (default missing)")
    run.add_argument(
        "--checkpoint-every",
        metavar="N",
        help="epochs of a victim and rounds of crafting between checkpoints (default 1); 0 for none",
    )
    run.add_argument(
        "--track",
        choices=("tensorboard", "wandb", "trackio"),
        help="show curves while victims train (needs the package's optional extra)",
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        default=None,
        help="print the plan and stop; data not in the cache yet are prepared first",
    )
    recipe = run.add_argument_group("the victims' training (defaults: the preset's)")
    for field in dataclasses.fields(Recipe):
        words = field.name.replace("_", " ")
        recipe.add_argument(f"--{field.name.replace('_', '-')}", help=f"{words} (paper: {field.default})")


def _add_export(commands: "argparse._SubParsersAction[_Parser]") -> None:
    export = commands.add_parser("export", help="write protected data as PNG images and captions")
    export.add_argument("--attack", default="mem3", help="the attack, e.g. mem3, poison[file=…]; clean for none")
    export.add_argument("--out", type=Path, required=True, help="folder for the files; not there yet, or empty")
    export.add_argument("--format", choices=_FORMATS, required=True, help="layout of images and captions")
    export.add_argument("--splits", choices=("train", "all"), default="train", help="all: clean val and test as well")
    export.add_argument(
        "--keep-resolution", action="store_true", help="enlarge the noise onto the original images; weakens it"
    )
    export.add_argument("--dataset", help="data set, e.g. scenes, csv[train=a.csv,test=b.csv]")
    export.add_argument("--skip-bad", action="store_true", help="leave out images that cannot be read, and list them")
    export.add_argument("--seed", type=int, default=1, help="the attack's seed (default 1)")
    export.add_argument("--victim", help="the model whose resolution is exported, e.g. tiny, RN50")
    export.add_argument("--surrogate", help="the model that crafts the poison")
    export.add_argument("--precision", help="fp32, bf16 or auto, as in run: poisons differ by it")
    export.add_argument("--preset", default="tiny", help="named set of values: tiny (default), micro or paper")
    export.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1 …")
    export.add_argument("--poisons", help="folder that keeps poisons (default: in the cache), or 'off' to craft anew")
    export.add_argument(
        "--checkpoint-every", metavar="N", default="1", help="crafting rounds between checkpoints (default 1); 0: none"
    )
    export.add_argument("--cache", type=Path, help="folder for rendered and resized images")


def _add_verify(commands: "argparse._SubParsersAction[_Parser]") -> None:
    verify = commands.add_parser("verify", help="check an export or a stored poison")
    verify.add_argument("path", type=Path, help="folder of an export, or a poison file (.safetensors)")
    verify.add_argument("--against", help="the clean data set, to compare images and captions with")
    verify.add_argument("--cache", type=Path, help="folder for rendered and resized images")


def _add_table(commands: "argparse._SubParsersAction[_Parser]") -> None:
    table = commands.add_parser("table", help="print a table from records")
    table.add_argument(
        "name",
        choices=("1", "2", "controls", "transfer", "cost"),
        help="1: trigger lengths; 2: defenses; controls: halves of the poison and random noise; "
        "transfer: surrogates against victims; cost: time and memory",
    )
    table.add_argument("--records", type=Path, default=Path("results/runs"), help="folder of records")
    table.add_argument("--format", choices=("markdown", "latex", "html", "csv", "json"), default="markdown")
    table.add_argument("--beside", choices=("paper",), help="set the paper's values and the differences beside ours")


def _add_plot(commands: "argparse._SubParsersAction[_Parser]") -> None:
    plot = commands.add_parser("plot", help="draw figures from records as SVG, PDF and PNG")
    plot.add_argument(
        "names",
        nargs="+",
        choices=("curves", "lengths", "defenses", "triggers", "samples"),
        metavar="FIGURE",
        help="curves: loss and median rank per epoch; lengths: recall by trigger length; defenses: recall under each; "
        "triggers: most frequent words; samples: images and captions, from the poisons",
    )
    plot.add_argument("--records", type=Path, default=Path("results/runs"), help="folder of records")
    plot.add_argument("--out", type=Path, default=Path("results/figures"), help="folder for the figures")
    _add_sources(plot)


def _add_report(commands: "argparse._SubParsersAction[_Parser]") -> None:
    report = commands.add_parser("report", help="write all tables and figures of some records as one HTML page")
    report.add_argument("--records", type=Path, default=Path("results/runs"), help="folder of records")
    report.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default report.html)")
    _add_sources(report)


def _add_sources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--poisons", type=Path, help="folder of poisons, for samples (default: in the cache)")
    parser.add_argument("--cache", type=Path, help="folder of rendered and resized images, for samples")


def _add_list(commands: "argparse._SubParsersAction[_Parser]") -> None:
    listing = commands.add_parser("list", help="what there is, with parameters and defaults")
    listing.add_argument("kind", choices=("attacks", "defenses", "victims", "datasets", "presets"))


def _add_contract(commands: "argparse._SubParsersAction[_Parser]") -> None:
    contract = commands.add_parser("contract", help="see whether an attack or a defense keeps what all of them promise")
    contract.add_argument("kind", choices=("attack", "defense"))
    contract.add_argument("spec", help="its name, with parameters if need be, e.g. cutout[size=0.3]")


def _add_check(commands: "argparse._SubParsersAction[_Parser]") -> None:
    check = commands.add_parser("check", help="run fresh seeds of preset micro and compare them with reference records")
    check.add_argument("--reference", type=Path, help="folder of the reference (default results/reference/micro)")
    check.add_argument(
        "--seeds", help="how many fresh seeds (default 1); with --update, how many in all (default those there)"
    )
    check.add_argument("--level", default="0.01", help="chance that nothing has changed and it is said (default 0.01)")
    check.add_argument("--device", help="auto (default), cpu, cuda, cuda:1 …")
    check.add_argument("--out", type=Path, help="folder that keeps the fresh records")
    check.add_argument("--records", type=Path, help="run nothing: compare the fresh records kept there, seed by seed")
    check.add_argument("--update", action="store_true", help="make a new reference in the place of the one there")


def _add_reproduce(commands: "argparse._SubParsersAction[_Parser]") -> None:
    reproduce = commands.add_parser(
        "reproduce", help="run every cell of the paper's tables and write tables and figures"
    )
    reproduce.add_argument("preset", choices=("paper", "tiny"), help="the scale")
    reproduce.add_argument("--seeds", default="3", help="how many (default 3) or which (4,7 or 4,)")
    reproduce.add_argument("--out", type=Path, help="folder for records, tables and figures (default results/PRESET)")
    reproduce.add_argument("--dataset", help="data set, e.g. flickr30k[root=DIR] (default: rendered scenes)")
    reproduce.add_argument("--device", help="auto (default), cpu, cuda, cuda:1 …")
    reproduce.add_argument(
        "--precision", help="fp32, bf16 or auto (default); cells of another precision than the records there run anew"
    )
    reproduce.add_argument("--rerun", choices=("missing", "failed", "all"), help="which cells to run (default missing)")
    reproduce.add_argument("--poisons", type=Path, help="folder that keeps poisons (default: in the cache)")
    reproduce.add_argument("--cache", type=Path, help="folder for rendered and resized images")
    reproduce.add_argument(
        "--dry-run",
        action="store_true",
        help="print the plans and stop; data not in the cache yet are prepared first",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        0 if all went well, 1 if cells failed or files are not what they say, 2 for bad input (one line on stderr).
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        arguments, strangers = build_parser().parse_known_args(argv)
        if strangers:
            raise UsageError(_not_understood(strangers, arguments.command))
        return _dispatch(arguments, argv)
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


def _sources(arguments: argparse.Namespace) -> "ArtifactPaths":
    from benchmark.core.cache_dir import cache_folder
    from benchmark.figures import ArtifactPaths

    cache = arguments.cache or cache_folder()
    return ArtifactPaths(arguments.poisons or cache / "poisons", cache)


def _load_plugins(paths: Sequence[Path]) -> None:
    from attacks import ATTACKS
    from benchmark.core.plugins import load_file
    from benchmark.data import DATASETS
    from defenses import DEFENSES

    def count() -> int:
        return len(ATTACKS.entries()) + len(DEFENSES.entries()) + len(DATASETS.entries())

    for path in paths:
        # Ours first, so that a plugin that takes one of our names is the one that is told.
        before = count()
        if load_file(path) and count() == before:
            print(f"plugin {path} registers no attack, defense or data set", file=sys.stderr)


def _dispatch(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    # Imported here so that --help and a mistyped flag answer at once.
    if arguments.plugin:
        _load_plugins(arguments.plugin)
    if arguments.command == "run":
        from benchmark.grid.run import run_command

        return run_command(arguments, argv)
    if arguments.command == "export":
        from benchmark.export.command import export_command

        return export_command(arguments, argv)
    if arguments.command == "verify":
        from benchmark.export.verify import verify_command

        return verify_command(arguments)
    if arguments.command == "table":
        from benchmark.grid.records import load_records
        from benchmark.tables import make_tables, render

        beside = arguments.beside == "paper"
        print(
            render(make_tables(arguments.name, load_records(arguments.records), beside_paper=beside), arguments.format)
        )
        return SUCCESS
    if arguments.command == "plot":
        from benchmark.figures import FIGURES, write
        from benchmark.grid.records import load_records

        records, sources = load_records(arguments.records), _sources(arguments)
        # All are drawn before the first is written.
        drawn = [FIGURES[name](records, sources) for name in arguments.names]
        for name, figure in (item for figures in drawn for item in figures.items()):
            print("\n".join(str(path) for path in write(figure, arguments.out, name)))
        return SUCCESS
    if arguments.command == "report":
        from benchmark.grid.records import load_records
        from benchmark.report import write_report

        write_report(load_records(arguments.records), _sources(arguments), arguments.out)
        print(arguments.out)
        return SUCCESS
    if arguments.command == "reproduce":
        from benchmark.cli.reproduce import reproduce_command

        return reproduce_command(arguments)
    if arguments.command == "check":
        from benchmark.reference_check.runner import check_command

        return check_command(arguments)
    if arguments.command == "contract":
        from benchmark.contracts import check

        verdict = check(arguments.kind, arguments.spec)
        print("\n".join([*(f"✓ {line}" for line in verdict.kept), *(f"✗ {line}" for line in verdict.broken)]))
        return DEVIATION if verdict.broken else SUCCESS
    from benchmark.cli.list import list_lines

    print("\n".join(list_lines(arguments.kind)))
    return SUCCESS
