"""One self-contained page from records: words, tables, figures, settings. Nothing on it is loaded from elsewhere."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from benchmark import __version__
from benchmark.core.atomic_files import replacing
from benchmark.core.errors import UsageError
from benchmark.figures import FIGURES, ArtifactPaths, PoisonMissing
from benchmark.grid.records import Record
from benchmark.report.inline import inline_svg
from benchmark.report.summary import Passage, gaps, recovery, strength, unattacked
from benchmark.tables import TABLES, Table, render
from benchmark.tables.chance import of_dataset
from benchmark.tables.selection import CLEAN, UNDEFENDED

_CAPTIONS = {
    "curves": "Training loss and test median rank after every epoch of undefended victims.",
    "lengths": "R@10 of undefended victims over the length of the trigger, the paper's beside ours.",
    "defenses": "R@10 under each defense, between the undefended and the clean victim, the paper's beside ours.",
    "triggers": "The most frequent words of the triggers.",
    "samples": "Originals, what is published in their place, and the noise amplified around mid-grey.",
}


@dataclass(frozen=True)
class Drawing:
    """A figure as SVG with its caption."""

    svg: str
    caption: str


def write_report(records: Sequence[Record], sources: ArtifactPaths, out: Path) -> None:
    """Write the report of some records as one HTML file.

    Args:
        records: at least one.
        sources: where poisons and images are, for samples.
        out: the file.

    Raises:
        UsageError: no records, or the file cannot be written.
    """
    page = report(records, sources)
    with replacing(out) as temporary:
        temporary.write_text(page, "utf-8")


def report(records: Sequence[Record], sources: ArtifactPaths) -> str:
    """The report as HTML; a table or figure that these records do not make is named under what is missing.

    Raises:
        UsageError: no records.
    """
    if not records:
        raise UsageError("there are no records to report on; make some with 'python -m benchmark run'")
    shown, missing = one_surrogate(records)
    tables = dict(_tables(records, shown, missing))
    drawings = [drawing for name in FIGURES for drawing in _drawings(name, shown, sources, missing)]
    flat = [table for own in tables.values() for table in own]
    levels = {record.dataset.spec: of_dataset(record.dataset.params) for record in records}
    summary: list[Passage] = [strength(table, levels[table.keys["dataset"]]) for table in tables.get("controls", [])]
    attacked = {(one.dataset.spec, one.victim.spec) for one in records if one.attack.spec != CLEAN}
    for table in tables.get("2", []):
        if table.keys["attack"] != CLEAN:
            passage = recovery(table)
        else:
            passage = None if (table.keys["dataset"], table.keys["victim"]) in attacked else unattacked(table)
        summary += [passage] if passage else []
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True)
    return environment.get_template("page.html").render(
        version=__version__,
        records=records,
        datasets=_distinct(record.dataset.spec for record in records),
        victims=_distinct(record.victim.spec for record in records),
        seeds=sorted({record.seed for record in records}),
        summary=summary,
        missing=[*gaps(records, flat), *missing],
        tables={name: render(own, "html") for name, own in tables.items()},
        drawings=drawings,
        versions=_versions(records),
        runs=_distinct(str(record.provenance.get("command", "")) for record in records),
        devices=_distinct(str(record.provenance.get("device", "")) for record in records),
        commits=_distinct(str(record.provenance.get("commit") or "") for record in records),
        finished=sorted(str(record.provenance["finished"]) for record in records if "finished" in record.provenance),
    )


def one_surrogate(records: Sequence[Record]) -> tuple[list[Record], list[str]]:
    """For each data set and victim the attacks of one surrogate, its own if there is one; only Transfer mixes them.

    Returns:
        Those records with all clean ones, and a line for each victim that has more.
    """
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for record in records:
        if record.attack.spec != CLEAN:
            found[record.dataset.spec, record.victim.spec].add(record.surrogate.spec)
    chosen = {place: place[1] if place[1] in own else min(own) for place, own in found.items()}
    kept = [
        record
        for record in records
        if record.attack.spec == CLEAN or record.surrogate.spec == chosen[record.dataset.spec, record.victim.spec]
    ]
    lines = [
        f"Victim {victim} on {dataset}: all but Transfer show the poisons of surrogate {chosen[dataset, victim]} alone."
        for (dataset, victim), own in found.items()
        if len(own) > 1
    ]
    return kept, lines


def _tables(
    records: Sequence[Record], shown: Sequence[Record], missing: list[str]
) -> Iterator[tuple[str, list[Table]]]:
    """Tables by name, in the order of the page; ``shown`` are those of one surrogate."""
    attacked = {record.attack.spec for record in records if record.defense.spec != UNDEFENDED}
    for name in ("2", "1", "controls", "transfer", "cost"):
        try:
            tables = TABLES[name](records if name == "transfer" else shown)
        except UsageError as error:
            missing.append(f"Table {name}: {error}.")
            continue
        # An attack that met no defense has its place among the controls.
        yield name, [table for table in tables if name != "2" or table.keys["attack"] in {*attacked, CLEAN}]


def _drawings(name: str, records: Sequence[Record], sources: ArtifactPaths, missing: list[str]) -> Iterator[Drawing]:
    try:
        figures = FIGURES[name](records, sources)
    except PoisonMissing as error:
        print(f"report: no figure {name}: {error}", file=sys.stderr)
        # Its message names a folder of this machine, which is nobody's business on a page that is passed on.
        missing.append(f"Figure {name}: the poisons are not at hand; --poisons names their folder.")
        return
    except UsageError as error:
        missing.append(f"Figure {name}: {error}.")
        return
    for id_, figure in figures.items():
        yield Drawing(inline_svg(figure, id_, _CAPTIONS[name]), _CAPTIONS[name])


def _distinct(values: Iterator[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value]


def _versions(records: Sequence[Record]) -> dict[str, str]:
    """Versions by package; several where runs differ."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for record in records:
        for package, version in record.provenance.get("versions", {}).items():
            found[package][str(version)] = None
    return {package: ", ".join(own) for package, own in found.items()}
