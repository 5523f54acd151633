"""One self-contained page from records: figures, tables, settings. Nothing on it is loaded from elsewhere."""

import hashlib
import logging
from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from benchmark.core.atomic_files import replacing
from benchmark.core.errors import PoisonError, UsageError
from benchmark.core.printing import printable
from benchmark.core.version import __version__
from benchmark.figures import FIGURES
from benchmark.figures.draw import Problem, draw_all
from benchmark.figures.samples import candidates_by_name
from benchmark.figures.sources import ArtifactPaths, AttackUnknown, PoisonMissing
from benchmark.figures.style import WIDTH
from benchmark.grid.records import Record
from benchmark.report.inline import PIXELS, inline, inline_png
from benchmark.report.missing import gaps
from benchmark.tables import TABLES
from benchmark.tables.chance import all_near_chance
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from benchmark.tables.selection import CLEAN, UNDEFENDED, blocks, place
from benchmark.tables.table import Table

_log = logging.getLogger(__name__)

_FIRST = ("matrix", "defenses")  # figures that the page opens with
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Drawing:
    """A figure as an HTML element, with its kind's name and its caption."""

    kind: str
    element: str
    caption: str


def write_report(records: Sequence[Record], sources: ArtifactPaths, out: Path) -> None:
    """Write the report of some records as one HTML file.

    Args:
        records: at least one.
        sources: where poisons and images are, for samples.
        out: the file.

    Raises:
        UsageError: no records, records that mix settings, or the file cannot be written.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; --out names the file")
    page = report(records, sources)
    with replacing(out) as temporary:
        temporary.write_text(page, "utf-8")


def report(records: Sequence[Record], sources: ArtifactPaths) -> str:
    """The report as HTML; tables and figures that these records do not make are named under what is missing.

    Raises:
        UsageError: no records, or records that mix settings.
    """
    if not records:
        raise UsageError("there are no records to report on; make some with 'python -m benchmark run'")
    shown, missing = one_surrogate(records)
    blocks(shown)
    tables = dict(_tables(records, shown, missing))
    drawings = [drawing for name in FIGURES for drawing in _drawings(name, shown, sources, missing)]
    script = (_FOLDER / "page.js").read_text("utf-8")
    environment = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, trim_blocks=True)
    page = environment.get_template("page.html").render(
        version=__version__,
        script=script,
        script_hash=b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        victims_trained=sum(record.status == "done" for record in records),
        victims_failed=sum(record.status == "failed" for record in records),
        datasets=_distinct(record.dataset.spec for record in records),
        victims=_distinct(record.victim.spec for record in records),
        seeds=sorted({record.seed for record in records}),
        warnings=[f"On {dataset}: {text[0].lower()}{text[1:]}" for dataset, text in all_near_chance(records)],
        opening=[drawing for drawing in drawings if drawing.kind in _FIRST],
        drawings=[drawing for drawing in drawings if drawing.kind not in _FIRST],
        missing=list(dict.fromkeys([*gaps(records, [table for made in tables.values() for table in made]), *missing])),
        tables={name: render(made, "html") for name, made in tables.items()},
        versions=_versions(records),
        runs=_distinct(str(record.provenance.get("command", "")) for record in records),
        devices=_distinct(str(record.provenance.get("device", "")) for record in records),
        commits=_distinct(str(record.provenance.get("commit") or "") for record in records),
        finished=sorted(str(record.provenance["finished"]) for record in records if "finished" in record.provenance),
    )
    # Anyone may have written the names in a record; marks that turn the direction of writing work in a browser, too.
    return "\n".join(map(printable, page.split("\n")))


def one_surrogate(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """For each data set and victim the attacks of one surrogate, its own if there is one; only Transfer mixes them.

    Returns:
        Those records with all clean ones, and a line for each victim that has more.
    """
    surrogates: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        if record.attack.spec != CLEAN:
            surrogates[record.dataset.spec, record.victim.spec].add(record.surrogate.spec)
    chosen = {place: place[1] if place[1] in names else min(names) for place, names in surrogates.items()}
    kept = [
        record
        for record in records
        if record.attack.spec == CLEAN or record.surrogate.spec == chosen[record.dataset.spec, record.victim.spec]
    ]
    lines = [
        f"Victim {victim} on {dataset}: all but Transfer show the poisons of surrogate {chosen[dataset, victim]} alone."
        for (dataset, victim), names in surrogates.items()
        if len(names) > 1
    ]
    return kept, lines


def _tables(
    records: Sequence[Record], shown: Sequence[Record], missing: list[str]
) -> Iterator[tuple[str, list[Table]]]:
    """Tables by name, in the order of the page; ``shown`` are those of one surrogate."""
    defended = {record.attack.spec for record in records if record.defense.spec != UNDEFENDED}
    for name in TABLES:
        try:
            tables = make_tables(name, records if name == "transfer" else shown)
        except UsageError as error:
            missing.append(f"Table {name}: {error}.")
            continue
        # An attack that met no defense has its place in the table of attacks.
        tables = [table for table in tables if name != "2" or table.keys["attack"] in {*defended, CLEAN}]
        if tables:
            yield name, tables
        else:
            missing.append(f"Table {name}: these records hold no attack that met a defense.")


def _drawings(name: str, records: Sequence[Record], sources: ArtifactPaths, missing: list[str]) -> Iterator[Drawing]:
    shown = _of_one_attack(records) if name == "samples" else records
    figures, problems = draw_all([name], shown, sources)
    drawings = []
    for file_name, figure in figures.items():
        # With its heading: for those who do not see it, the figures of one kind would be alike. Samples have none.
        caption = " ".join(f"{FIGURES[name]} {figure.get_suptitle()}".split())
        drawings.append(Drawing(name, inline(figure, file_name, caption), caption))
    if name == "samples":
        # They are large, so there is one on the page.
        yield from drawings[:1] or _drawn_earlier(records, shown, sources, problems)
    else:
        yield from drawings
    for problem in problems:
        if isinstance(problem.error, AttackUnknown) or not isinstance(problem.error, PoisonError):
            missing.append(f"Figure {name}: {problem.error}.")
            continue
        # Its message names a folder of this machine, which is nobody's business on a page that is passed on.
        _log.warning("report: not drawn: %s", problem)
        is_gone = isinstance(problem.error, PoisonMissing)
        why = "the poisons are not at hand; --poisons names their folder" if is_gone else "a poison cannot be used"
        missing.append(f"Figure {name}: {why}.")


def _of_one_attack(records: Sequence[Record]) -> list[Record]:
    """The records of the first attack that met a defense, or of the first attack at all."""
    defended = {record.attack.spec for record in records if record.defense.spec != UNDEFENDED} - {CLEAN}
    attacks = defended or {record.attack.spec for record in records} - {CLEAN}
    first = min(attacks, key=lambda spec: (place(spec), spec), default=None)
    return [record for record in records if record.attack.spec == first]


def _drawn_earlier(
    records: Sequence[Record], shown: Sequence[Record], sources: ArtifactPaths, problems: list[Problem]
) -> Iterator[Drawing]:
    """The samples figure of an earlier run, if its poison is gone but the figure is still there.

    Its name depends on all records, though it is of those shown, which are of one attack. The missing poison is then no
    longer reported as a problem.
    """
    if sources.drawn is None or not all(isinstance(problem.error, PoisonMissing) for problem in problems):
        return
    attacks = {record.attack.spec for record in shown}
    try:
        by_name = candidates_by_name(records)
    except UsageError:  # other records mix settings, which the tables say
        return
    for name, (_, candidates) in by_name.items():
        if candidates[0].attack.spec not in attacks:
            continue
        path = sources.drawn / f"{name}.png"
        if path.is_file():
            problems.clear()
            file = path.read_bytes()
            yield Drawing("samples", inline_png(file, FIGURES["samples"], round(WIDTH * PIXELS)), FIGURES["samples"])
            return


def _distinct(values: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """Versions by package; several where runs differ."""
    versions: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        for package, version in record.provenance.get("versions", {}).items():
            versions[package][str(version)] = None
    return {package: ", ".join(names) for package, names in versions.items()}
