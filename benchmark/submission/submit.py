"""From a submission's folder to findings and, if all rules are kept, an entry of the leaderboard."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from attacks import ATTACKS
from benchmark.contracts import check
from benchmark.core.atomic_files import make_folder, require_possible, temporary_folder
from benchmark.core.errors import UsageError
from benchmark.core.idle_cpus import usable_cpus
from benchmark.core.plugins import source_of
from benchmark.core.registry import Registry
from benchmark.core.spec import parse_spec, split_outside_brackets
from benchmark.core.threads import limited_threads
from benchmark.export.finding import Finding
from benchmark.grid.opening import open_grid
from benchmark.grid.plugins import load_plugins
from benchmark.grid.records import Record
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.submission import rules as rules_file
from benchmark.submission.cells import (
    RequiredCell,
    budget_problems,
    clean_data_problems,
    match,
    required_cells,
    seed_problems,
)
from benchmark.submission.folder import ABOUT, Submission, read_submission
from benchmark.submission.page import publish, require_new, require_page, twins
from benchmark.submission.poisons import Poisons, check_poisons
from benchmark.submission.rerun import compare, draw, draw_seed, run_again, scores_digest
from benchmark.submission.result import entry_of
from benchmark.submission.rules import Rules
from benchmark.submission.strength import strength_problems
from benchmark.tables.entries import Entry, Kind, RerunCell, load_entries
from benchmark.tables.gates import UNIFORM_NOISE, is_uniform_noise
from benchmark.tables.origins import mixed_origins
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block, blocks
from defenses import DEFENSES

_REGISTRIES: Mapping[Kind, Registry[Any]] = {"attack": ATTACKS, "defense": DEFENSES}
_NOT_SUBMITTED = (CLEAN, UNDEFENDED, UNIFORM_NOISE, "poison")


@dataclass(frozen=True)
class Options:
    """How to check.

    Attributes:
        out: the leaderboard's folder.
        cache: folder of prepared images.
        device: where to run a cell again.
        seed: that draws the cell; ``None``: from the scores and the day.
        rerun: whether to run a cell again.
        trust_plugin: whether to execute the submission's own code.
        update: whether an entry of this name may be replaced.
    """

    out: Path
    cache: Path
    device: str = "auto"
    seed: int | None = None
    rerun: bool = True
    trust_plugin: bool = False
    update: bool = False


def submit(folder: Path, options: Options) -> tuple[list[Finding], Path | None]:
    """Check a submission; if all rules are kept, write its entry and the page, else nothing.

    Returns:
        The findings, and the file of the entry.

    Raises:
        UsageError: what is submitted cannot be read, is not known, or has an entry already.
    """
    rules, submission = rules_file.RULES, read_submission(folder)
    require_new(options.out / f"{submission.about.name}.json", update=options.update)
    require_possible(options.out)
    require_page(options.out)
    entries = load_entries(options.out)  # the page shows all of them, so a damaged one is told before the work
    untrusted = _prepare(submission, options)
    if not submission.records:
        problems = [*submission.problems, "records/ holds no record that can be read"]
        return _findings(problems, ""), None
    make_folder(options.cache)
    with temporary_folder(options.cache, "submission") as temporary:
        settings = _settings(submission, untrusted, rules, options, temporary)
        with limited_threads(_threads(submission.records)), open_grid(settings) as grid:
            findings, entry = _check(submission, untrusted, rules, options, grid, entries)
    if entry is None:
        return findings, None
    return findings, publish(entry, options.out, update=options.update)


def _prepare(submission: Submission, options: Options) -> bool:
    """Check the submitted name, and load the plug-in if there is one and it is trusted.

    Returns:
        Whether there is a plug-in that is not trusted, so that its attack or defense stays unknown.

    Raises:
        UsageError: the name is unknown, cannot be submitted, or is the suite's own although there is a plug-in; or a
            cell should run again, but the plug-in of its defense is not trusted.
    """
    about, registry = submission.about, _REGISTRIES[submission.about.kind]
    parts = split_outside_brackets(about.spec, "+") if about.kind == "defense" else [about.spec]
    names = [parse_spec(part).name for part in parts]
    if taken := [name for name in names if name in _NOT_SUBMITTED]:
        raise UsageError(
            f"{about.kind} {taken[0]} cannot be submitted; give what is new a name of its own, in a plug-in"
        )
    if submission.plugin is not None:
        known = {entry.name for entry in registry.entries() if source_of(entry.factory) is None}
        if all(name in known for name in names):
            through = "; an attack of a plug-in cannot be submitted through a defense" if "through" in names else ""
            raise UsageError(f"spec: the suite has {'+'.join(names)} itself, so no plug-in belongs to it{through}")
        if not options.trust_plugin:
            if about.kind == "defense" and options.rerun:
                raise UsageError(
                    f"{about.spec} is code of the submission's own, {submission.plugin.name}, which no re-run can do "
                    "without: read it, then give --trust-plugin, or --no-rerun"
                )
            return True
        load_plugins([submission.plugin])
    for name in names:
        try:
            registry.entry(name)
        except UsageError as error:
            if submission.plugin is not None:
                raise
            raise UsageError(f"{error}, that of a submission is named under 'plugin' in {ABOUT}") from error
    if about.kind == "attack" and (whole := ATTACKS.entry(names[0]).factory.part_of) is not None:
        changed = f"{names[0]} changes the poison of {whole}, so its own is not stored"
        raise UsageError(f"{changed}; it cannot be submitted")
    return False


def _settings(submission: Submission, untrusted: bool, rules: Rules, options: Options, temporary: Path) -> RunSettings:
    """The run that the submission should hold, without what only an untrusted plug-in knows."""
    about, records = submission.about, submission.records
    attack, defense = rules.settings(about.kind, about.spec)
    if untrusted:
        attack, defense = (CLEAN, defense) if about.kind == "attack" else (attack, UNDEFENDED)
    if about.kind == "attack" and (eps := _eps_of_noise(records)):
        attack = f"{attack},{UNIFORM_NOISE}[eps={min(eps, rules.eps)}]"
    seeds = sorted({record.seed for record in records})[: rules.most_seeds]
    precisions = Counter(record.recipe["precision"] for record in records)
    known = [name for name, _ in precisions.most_common() if name in ("fp32", "bf16")]
    out = temporary / "records"
    make_folder(out)
    return RunSettings(
        attack=attack,
        defense=defense,
        preset=rules.preset,
        seeds=",".join(map(str, seeds)) + ",",
        # "auto" would be another on another machine.
        precision=known[0] if known else "fp32",
        device=options.device,
        cache=options.cache,
        out=out,
        poisons=str(temporary / "poisons"),
    )


def _threads(records: Sequence[Record]) -> int | None:
    """How many threads the records' victims trained with, so that a re-run rounds in the same way.

    ``None`` if no record says, or if this process may use fewer CPUs: then torch's own number of threads is kept.
    """
    said = {record.provenance.get("threads") for record in records}
    return next((one for one in said if isinstance(one, int) and 1 <= one <= usable_cpus()), None)


def _eps_of_noise(records: Sequence[Record]) -> int:
    """The ε of the submitted attack's noise, by its records; 0 without noise."""
    noises = [record.poison for record in records if record.poison.get("psnr") and not is_uniform_noise(record.attack)]
    return max((poison.get("eps", 0) for poison in noises), default=0)


def _check(
    submission: Submission,
    untrusted: bool,
    rules: Rules,
    options: Options,
    grid: Grid,
    entries: Sequence[Entry],
) -> tuple[list[Finding], Entry | None]:
    about, day = submission.about, datetime.now(UTC).date()
    cells = required_cells(grid, about.kind, about.spec if untrusted else None)
    found, cell_problems = match(cells, submission.records)
    done = [record for record in found.values() if record.status == "done"]
    poisons, poison_problems = check_poisons(found, submission.poisons, grid, rules)
    findings = [
        *_findings(submission.problems, "all files are ordinary ones; records match their SHA-256"),
        *_findings(seed_problems(submission.records, rules), "the seeds are 1 to n"),
        *_findings(cell_problems, f"all {len(cells)} cells are there, in the settings of preset {rules.preset}"),
        *_addresses(cells, about.kind, agree=not cell_problems),
        *(
            _findings(budget_problems(done, rules), "every attack keeps to the values that the preset sets")
            if about.kind == "attack"
            else _clean_data(cells, untrusted=untrusted)
        ),
        *_findings(_origin_problems(done), "all records are of one machine, one commit and the same packages"),
        *_findings(poison_problems, "every poison is intact, within its ε, of these data, and as its records say"),
    ]
    if submission.plugin is not None and not untrusted:
        broken = check(about.kind, about.spec).broken
        findings += _findings([f"contract: {promise}" for promise in broken], "the plug-in keeps the contract")
    block: Block | None = None
    spec = _submitted(cells, about.kind)
    if not cell_problems:
        block, problems = _block(done, about.kind, spec, rules)
        findings += _findings(problems, f"the {about.kind} counts: no gate fails")
    if block is not None:
        digest = scores_digest(block.records)
        findings += _findings(twins(about.name, digest, entries), "its scores are those of no other entry")
    rerun: RerunCell | None = None
    if not options.rerun:
        findings.append(Finding(None, "no cell was run again: --no-rerun"))
    elif any(finding.holds is False for finding in findings):
        findings.append(Finding(None, "no cell was run again, as rules are broken"))
    else:
        finding, rerun = _rerun(found, poisons, grid, options, day)
        findings.append(finding)
    if block is None or any(finding.holds is False for finding in findings):
        return findings, None
    plugin: Literal["none", "run", "not run"] = (
        "none" if submission.plugin is None else "not run" if untrusted else "run"
    )
    return findings, entry_of(about, block, spec, rerun, day, rules=rules.version, plugin=plugin)


def _findings(problems: Sequence[str], passed: str) -> list[Finding]:
    """A finding for each problem, or that there is none."""
    return [Finding(False, problem) for problem in problems] or [Finding(True, passed)]


def _clean_data(cells: Sequence[RequiredCell], *, untrusted: bool) -> list[Finding]:
    """Whether the defense has no clean data of its own, which only its class knows."""
    if untrusted:
        unchecked = "whether the defense has clean data was not checked, as its plug-in was not executed"
        return [Finding(None, unchecked)]
    return _findings(clean_data_problems(cells), "the defense has no clean data")


def _addresses(cells: Sequence[RequiredCell], kind: Kind, *, agree: bool) -> list[Finding]:
    """That all addresses were recomputed, or how many were not; those that differ have lines of their own."""
    count = sum(cell.untrusted is not None for cell in cells)
    if not count:
        return [Finding(True, "all addresses were recomputed and agree")] if agree else []
    return [
        Finding(
            None,
            f"addresses of {count} cells and parameters of the {kind} were not recomputed, as its plug-in was not "
            "executed: --trust-plugin does so",
        )
    ]


def _submitted(cells: Sequence[RequiredCell], kind: Kind) -> str:
    """The spec of what was submitted, as the suite spells it."""
    specs = [getattr(cell.planned, kind) for cell in cells]
    specs = [one for one in specs if kind == "defense" or not is_uniform_noise(one)]
    return next(one.spec for one in specs if one.spec not in (CLEAN, UNDEFENDED))


def _origin_problems(records: Sequence[Record]) -> list[str]:
    commits = sorted({str(record.provenance.get("commit")) for record in records})
    changed = [commit for commit in commits if commit.endswith("-dirty")]
    facts = ("device", "threads", "processes", "versions")  # an installed wheel knows no commit
    unsaid = [fact for fact in facts if not all(record.provenance.get(fact) for record in records)]
    return [
        *(f"not all records say their {fact}" for fact in unsaid),
        *mixed_origins(records),
        *(f"made by code that no commit names: {commit}" for commit in changed),
    ]


def _block(records: Sequence[Record], kind: Kind, spec: str, rules: Rules) -> tuple[Block | None, list[str]]:
    try:
        found = blocks(records)
    except UsageError as error:
        return None, [str(error)]
    if len(found) > 1:
        return None, ["the records are of several data sets or victims"]
    return found[0], strength_problems(found[0], kind, spec, rules)


def _rerun(
    found: Mapping[RequiredCell, Record], poisons: Poisons, grid: Grid, options: Options, day: date
) -> tuple[Finding, RerunCell | None]:
    seed, drawn = options.seed, "given"
    if seed is None:
        seed, drawn = draw_seed(found.values(), day), f"from the scores and {day}"
    cell = draw(list(found), seed)
    return compare(cell, found[cell], run_again(cell, poisons, grid), found, seed, drawn)
