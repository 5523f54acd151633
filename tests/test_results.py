"""What lies in results/: every table, figures once, one page, and little of it."""

import json
import math
import shlex
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ttest_rel

from benchmark.cli.main import main
from benchmark.grid.records import load_records
from benchmark.tables.make import make_tables
from benchmark.tables.render import render
from tests.tools.survival_page import PHOTOS, page

RESULTS = Path("results")
TINY = RESULTS / "tiny"
MB = 10**6


def recalls_at_tiny() -> dict[tuple[str, str], dict[int, float]]:
    """R@10 of preset tiny's victims, in percent, by attack and defense, then by seed."""
    recalls: dict[tuple[str, str], dict[int, float]] = {}
    for one in load_records(TINY / "records"):
        if one.victim.spec == "tiny":
            own = recalls.setdefault((one.attack.spec, one.defense.spec), {})
            own[one.seed] = one.last.test.mean_recall_at_10
    return recalls


def test_every_table_is_there() -> None:
    names = {"1", "1-beside-paper", "2", "2-beside-paper", "matrix", "attacks", "transfer", "cost"}
    assert {page.stem.removeprefix("table-") for page in TINY.glob("table-*.md")} == names


def test_figures_are_kept_once_and_results_are_light() -> None:
    files = [path for path in RESULTS.rglob("*") if path.is_file() and "runs" not in path.parts]
    assert {path.suffix for path in files} <= {".json", ".gz", ".md", ".png", ".html"}
    pages = [path for path in files if path.suffix == ".html"]
    assert not [path for path in pages if path != TINY / "report.html"]
    # As a disk counts, in whole blocks: most files are small.
    assert sum(path.stat().st_blocks * 512 for path in RESULTS.rglob("*") if "runs" not in path.parts) <= 7 * MB
    assert all(path.stat().st_size <= 1.5 * MB for path in pages)


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("adaptive", ["matrix"]),
        ("regime/through", ["matrix"]),
        ("regime/worst-defenses", ["matrix"]),
        ("regime/five-seeds", ["attacks"]),
        ("regime/twelve-seeds", ["attacks"]),
        ("openclipart", ["matrix", "attacks"]),
        ("openmoji", ["matrix", "attacks"]),
        ("regime/repeated-victims", ["transfer"]),
        ("benchmarks/default-command", ["2"]),
    ],
)
def test_the_tables_in_a_readme_are_what_their_commands_print(place: str, names: list[str]) -> None:
    folder = RESULTS / place
    records = load_records(folder / "records")
    tables = "\n\n".join(render(make_tables(name, records), "markdown") for name in names)
    assert (folder / "README.md").read_text("utf-8").endswith(f"\n\n{tables}\n")


@pytest.mark.parametrize(
    ("place", "parts"),
    [
        ("arsenal", {"records": "matrix", "placement": "matrix"}),
        ("protected-share", {"records": "matrix", "micro": "matrix"}),
        ("regime/crops", {"records": "matrix", "whole-image": "matrix"}),
        ("regime/budgets", {"em": "attacks", "mem3": "attacks", "tiny": "attacks"}),
        ("regime/fine-tuned", {"records": "attacks", "on-checkpoint": "attacks"}),
        (
            "regime/counter-checks",
            {"unlearned": "attacks", "tile-7": "matrix", "micro": "attacks", "even-keys": "attacks"},
        ),
    ],
)
def test_the_tables_of_several_folders_are_what_their_commands_print(place: str, parts: dict[str, str]) -> None:
    folder = RESULTS / place
    tables = [render(make_tables(name, load_records(folder / part)), "markdown") for part, name in parts.items()]
    assert (folder / "README.md").read_text("utf-8").endswith("\n\n" + "\n\n".join(tables) + "\n")


@pytest.mark.parametrize("file", sorted(TINY.glob("table-*.md")), ids=lambda file: file.stem)
def test_tinys_tables_are_what_their_commands_print(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heading, _, printed = file.read_text("utf-8").partition("\n\nPrinted by\n\n```sh\n")
    command, _, table = printed.partition("\n```\n\n")
    assert heading.startswith("# Table ")
    monkeypatch.chdir(RESULTS.parent)
    assert main(shlex.split(command.removeprefix("python -m benchmark "))) == 0
    assert capsys.readouterr().out == table


def test_what_is_said_of_five_seeds_is_what_their_records_say() -> None:
    folder = RESULTS / "regime" / "five-seeds"
    recalls: dict[str, dict[int, float]] = {}
    for one in [*load_records(TINY / "records"), *load_records(folder / "records")]:
        if (one.victim.spec, one.defense.spec) == ("tiny", "none"):
            recalls.setdefault(one.attack.spec, {})[one.seed] = one.last.test.mean_recall_at_10
    clean = recalls["clean"]
    attacks = {"mem3": "MEM-3", "em": "EM", "em-wordwise": "EM word-wise", "mem-wordwise": "MEM-3 word-wise"}
    rows = {"Clean, R@10": clean}
    rows |= {
        f"{label}, lost": {seed: 100 * (1 - recalls[spec][seed] / clean[seed]) for seed in clean}
        for spec, label in attacks.items()
    }
    text = (folder / "README.md").read_text("utf-8")
    for name, values in rows.items():
        by_seed = [f"{values[seed]:.1f}" for seed in (1, 2, 3, 4, 5)]
        spread = f"{fmean(values.values()):.1f} ± {stdev(values.values()):.1f}"
        assert f"| {' | '.join([name, *by_seed, spread])} |" in text


def test_what_is_said_of_victims_of_one_poison_is_what_their_records_say() -> None:
    folder = RESULTS / "regime" / "repeated-victims"
    recalls: dict[tuple[str, str], dict[int, dict[str, float]]] = {}
    for one in load_records(folder / "records"):
        of_seed = recalls.setdefault((one.dataset.spec, one.attack.spec), {}).setdefault(one.seed, {})
        of_seed[one.victim.spec] = one.last.test.mean_recall_at_10
    text = (folder / "README.md").read_text("utf-8")
    lost: dict[tuple[str, str], NDArray[np.float64]] = {}  # seeds × victims, in percent
    for (data, attack), by_seed in recalls.items():
        clean, poisoned = (
            np.array([[own[victim] for victim in sorted(own)] for _, own in sorted(of.items())])
            for of in (recalls[data, "clean"], by_seed)
        )
        lost[data, attack] = shares = 100 * (1 - poisoned / clean)
        assert shares.shape[1] == 4
        if attack != "clean":
            for seed, row in zip(sorted(by_seed), shares, strict=True):
                told = " | ".join(f"{share:.0f}" for share in (*row, row.mean()))
                assert f"| {data} | `{attack}` | {seed} | {told} |" in text
            mean, within = shares.mean(), math.sqrt(shares.var(axis=1, ddof=1).mean())
            assert f"| {data} | `{attack}` | {mean:.1f} | {within:.1f} |" in text
    said = " ".join(text.split())
    usual, longer = (lost["openmoji", f"em-wordwise{more}"] for more in ("", "[restarts=16]"))
    together = np.corrcoef(*((one - one.mean(axis=1, keepdims=True)).ravel() for one in (usual, longer)))[0, 1]
    more = (longer - usual).mean(axis=1)
    assert f"(correlation {together:.2f} within a seed)" in said
    assert "{:.1f} points, on the three seeds {:.1f}, {:.1f} and {:.1f}.".format(more.mean(), *more) in said
    on_openmoji = " ".join((RESULTS / "openmoji" / "README.md").read_text("utf-8").split())
    assert f"it takes {longer.mean():.0f} % in place of {usual.mean():.0f} %. With patterns" in on_openmoji
    one_poison = "{:.0f}, {:.0f}, {:.0f} and {:.0f} %".format(*sorted(usual[0]))
    assert f"word-wise EM takes {one_poison}." in Path("docs/footguns.md").read_text("utf-8")
    seeds = (f"{one.mean(axis=1).std(ddof=1):.1f}" for one in (usual, lost["openclipart", "em-wordwise"]))
    assert f"standard deviation of {next(seeds)} over the seeds. " in said
    assert f"On clip art seeds matter too: it is {next(seeds)}, where" in said


def test_what_is_said_of_groups_of_more_equal_size_is_what_their_records_say() -> None:
    def lost(folder: Path) -> dict[str, list[float]]:
        """Percent of the recall that each attack takes, of seeds 1 to 3."""
        done = [one for one in load_records(folder) if (one.victim.spec, one.defense.spec) == ("tiny", "none")]
        recalls = {(one.attack.spec, one.seed): one.last.test.mean_recall_at_10 for one in done}
        return {
            attack: [100 * (1 - recalls[attack, seed] / recalls["clean", seed]) for seed in (1, 2, 3)]
            for attack in ("em-keyed", "em-keyed[keys=16]", "text-hint", "lsp", "pil", "ar")
        }

    folder = RESULTS / "regime" / "counter-checks"
    even, suite = lost(folder / "even-keys"), lost(TINY / "records")
    evened, usual = (f"{fmean(of['em-keyed']):.0f} ± {stdev(of['em-keyed']):.0f} %" for of in (even, suite))
    few, few_usual = ("{:.0f}, {:.0f} and {:.0f}".format(*of["em-keyed[keys=16]"]) for of in (even, suite))
    said = " ".join((folder / "README.md").read_text("utf-8").split())
    for text in (said, " ".join((RESULTS.parent / "docs" / "method.md").read_text("utf-8").split())):
        assert f"takes {evened} in place of {usual}, less on each of three seeds" in text
    assert f"With 16 keys it takes {few} % in place of {few_usual} %" in said
    assert f"Text hints take {fmean(even['text-hint']):.1f} ± {stdev(even['text-hint']):.1f} %" in said
    assert all(mine < theirs for mine, theirs in zip(even["em-keyed"], suite["em-keyed"], strict=True))
    assert max(round(share) for attack in ("lsp", "pil", "ar") for share in even[attack]) == 2


@pytest.mark.parametrize(
    ("attack", "defense", "name"),
    [
        ("text-hint", "none", "text hints, no defense"),
        ("sem", "none", "SEM, no defense"),
        ("em", "none", "EM, no defense"),
        ("em", "crop-flip", "EM × random crops"),
        ("clean", "crop-flip", "clean data × random crops"),
        ("clean", "adv-training", "clean data × adversarial training"),
    ],
)
def test_what_is_said_of_recall_at_1_is_what_records_say(attack: str, defense: str, name: str) -> None:
    records = [one for one in load_records(TINY / "records") if one.victim.spec == "tiny"]
    found = {(one.attack.spec, one.defense.spec, one.seed): one for one in records}
    columns = []
    for at in ("recall_at_10", "recall_at_1"):

        def recall(cell: tuple[str, str, int], at: str = at) -> float:
            scores = found[cell].last.test
            return fmean(getattr(direction, at) for direction in (scores.image_to_text, scores.text_to_image))

        lost = [100 * (1 - recall((attack, defense, seed)) / recall(("clean", "none", seed))) for seed in (1, 2, 3)]
        columns.append(f"{fmean(lost):.1f} ± {stdev(lost):.1f}")
    assert f"| {' | '.join([name, *columns])} |" in Path("docs/tables-and-figures.md").read_text("utf-8")


def test_what_is_said_of_the_epochs_that_protected_data_choose_is_what_records_say() -> None:
    places = ("tiny/records", "arsenal/records", "arsenal/placement", "openclipart/records")
    cells = {one.key: one for place in places for one in load_records(RESULTS / place)}
    chosen = [(one.best_on_protected, one.last) for one in cells.values()]
    apart = [
        abs(best.test.mean_recall_at_10 - last.test.mean_recall_at_10) for best, last in chosen if best is not None
    ]
    assert len(apart) == len(cells)
    text = " ".join(Path("docs/method.md").read_text("utf-8").split())
    assert f"is the last one in {sum(best == last for best, last in chosen)} of the {len(cells)} cells" in text
    assert sum(points > 3 for points in apart) == 5
    assert "In five cells the recall at that epoch differs from the last one's by more than three points" in text


def test_what_is_said_of_rankings_over_four_attacks_is_what_records_say() -> None:
    recalls = recalls_at_tiny()
    clean = recalls["clean", "none"]

    def middle_half(defense: str) -> float:
        cells = [recalls[attack, defense] for attack in ("mem3", "em", "em-wordwise", "mem-wordwise")]
        kept = sorted(100 * own[seed] / clean[seed] for own in cells for seed in clean)
        return fmean(kept[len(kept) // 4 : -(len(kept) // 4)])

    cleanclip, crops, tiles = (f"{middle_half(defense):.0f}" for defense in ("cleanclip", "crop-flip", "tile-average"))
    text = " ".join(Path("docs/tables-and-figures.md").read_text("utf-8").split())
    said = f"the IQM would be {cleanclip} for CleanCLIP, {crops} for random crops and {tiles} for `tile-average`"
    assert said in text


@pytest.mark.parametrize("part", ["em", "mem3"])
def test_the_budgets_are_the_same_by_validation_recall_as_by_test_recall(part: str) -> None:
    recalls: dict[str, list[tuple[float, float]]] = {}
    for one in load_records(RESULTS / "regime" / "budgets" / part):
        scores = one.last.test.mean_recall_at_10, one.last.val.mean_recall_at_10
        recalls.setdefault(one.attack.spec, []).append(scores)
    by_test, by_val = (min(recalls, key=lambda spec: fmean(own[of] for own in recalls[spec])) for of in (0, 1))
    assert by_test == by_val


def test_the_readmes_table_is_of_three_seeds_of_preset_tiny() -> None:
    """R@10 in both directions, and the share of the clean recall of the same seed that is lost."""
    cells = {
        "Clean data, no defense": ("clean", "none"),
        "Clean data, adversarial training": ("clean", "adv-training"),
        "MEM-3, no defense": ("mem3", "none"),
        "MEM-3, adversarial training": ("mem3", "adv-training"),
        "MEM-3, prefix drop": ("mem3", "prefix-drop"),
        "EM, no defense": ("em", "none"),
        "EM, random crops": ("em", "crop-flip"),
        "EM word-wise, no defense": ("em-wordwise", "none"),
        "EM word-wise, prefix drop": ("em-wordwise", "prefix-drop"),
        "EM word-wise, random crops": ("em-wordwise", "crop-flip"),
    }
    tests = {
        (one.attack.spec, one.defense.spec, one.seed): one.last.test
        for one in load_records(TINY / "records")
        if one.victim.spec == "tiny"
    }
    lines = Path("README.md").read_text("utf-8").replace("**", "").splitlines()
    shown = {}
    for line in lines:
        name, *numbers = (part.strip() for part in line.strip("|").split("|"))
        if name in cells:
            shown[name] = numbers
    expected = {}
    for name, cell in cells.items():
        own, clean = (
            [tests[attack, defense, seed] for seed in (1, 2, 3)] for attack, defense in (cell, ("clean", "none"))
        )
        columns = (
            [one.image_to_text.recall_at_10 for one in own],
            [one.text_to_image.recall_at_10 for one in own],
            [100 * (1 - a.mean_recall_at_10 / b.mean_recall_at_10) for a, b in zip(own, clean, strict=True)],
        )
        expected[name] = [f"{fmean(values):.1f}±{stdev(values):.1f}" for values in columns]
    assert shown == expected


def test_what_is_said_of_a_row_of_the_paper_is_what_victims_of_preset_tiny_show() -> None:
    (remark,) = (line for line in json.loads((RESULTS / "paper" / "table2.json").read_text("utf-8"))["remarks"])
    epochs = [
        epoch.test.image_to_text
        for one in load_records(TINY / "records")
        if one.victim.spec == "tiny"
        for epoch in one.epochs
    ]
    beside = [epoch.recall_at_10 for epoch in epochs if 44 <= epoch.median_rank <= 52]
    assert f"between {math.floor(min(beside))} and {math.ceil(max(beside))} in every epoch whose Medr" in remark
    assert max(beside) < 36.6


def test_what_is_said_of_protected_photos_is_what_was_measured() -> None:
    """The page, and the numbers of the owners' document, which has its own names for the passages."""
    folder = RESULTS / "protected-photos"
    assert (folder / "README.md").read_text("utf-8") == page(folder)
    measured = json.loads((folder / PHOTOS).read_text("utf-8"))
    text = Path("docs/protecting-photos.md").read_text("utf-8")
    for each in measured["passages"].values():
        assert f"| {each['share']:.0%} | {each['size']:.0%} | {each['correlation']:.2f} |".replace("%", " %") in text
    for step, seconds in measured["cpu_seconds"].items():
        named = {"prepare": "prepare (read and make small)", "jpeg": "write JPEG 95", "png": "write PNG"}[step]
        minutes = 2000 * seconds / 2 / 60
        assert (
            f"| {named} | {seconds:.2f} s per photo and core | {minutes:{'.1f' if minutes < 5 else '.0f'}} min |"
            in text
        )
    assert all(f"| {size:.1f} |" in text for size in measured["megabytes"].values())
    assert f"PSNR at full size is {measured['psnr']:.1f} dB" in text
    victims = page(folder).partition("## Victims")[2].splitlines()
    rows = [" ".join(line.split()) for line in victims if line.startswith("| ")]
    assert len(rows) == 9  # the head and eight kinds of training data
    assert all(row in text for row in rows)


@pytest.mark.parametrize(
    ("first", "second", "is_clear"),
    [
        (("em[eps=4]", "none"), ("em", "none"), True),
        (("em-keyed[eps=4]", "none"), ("em-keyed", "none"), False),
        (("em-wordwise[eps=2]", "none"), ("em", "none"), False),
        (("mem-wordwise[eps=4]", "none"), ("mem-wordwise", "none"), False),
        (("tap", "grey"), ("clean", "grey"), False),
    ],
)
def test_what_is_said_to_be_stronger_is_so_by_students_test_of_paired_seeds(
    first: tuple[str, str], second: tuple[str, str], is_clear: bool
) -> None:
    recalls = recalls_at_tiny()
    clean = recalls["clean", "none"]
    ours, theirs = ([recalls[cell][seed] / clean[seed] for seed in sorted(clean)] for cell in (first, second))
    assert (ttest_rel(ours, theirs).pvalue < 0.05) == is_clear


def test_what_is_said_of_a_checkpoints_gain_is_what_was_measured() -> None:
    """The share of what training on clean data adds to the checkpoint that each attack takes, over three seeds."""
    place = RESULTS / "regime" / "fine-tuned"
    text = " ".join((place / "README.md").read_text("utf-8").split())

    def recalls(folder: str, attack: str) -> list[tuple[float, float]]:
        found = [one for one in load_records(place / folder) if "pretrained" in one.victim.spec]
        last = [one.last.test for one in sorted(found, key=lambda one: one.seed) if one.attack.spec == attack]
        return [(scores.image_to_text.recall_at_10, scores.text_to_image.recall_at_10) for scores in last]

    untrained, clean = recalls("untrained", "clean"), recalls("records", "clean")
    whole = [sum(both) / 2 for both in untrained]
    assert f"it reaches {fmean(whole):.1f} ± {stdev(whole):.1f}, and" in text

    def taken(folder: str, attack: str, *directions: int) -> str:
        shares = []
        for start, end, left in zip(untrained, clean, recalls(folder, attack), strict=True):
            start_sum, end_sum, left_sum = (sum(both[one] for one in directions) for both in (start, end, left))
            shares.append(100 * (end_sum - left_sum) / (end_sum - start_sum))
        return f"{fmean(shares):.0f} ± {stdev(shares):.0f}"

    assert f"by training**, {taken('records', 'mem3', 0, 1)} %" in text
    assert f"all of it and more ({taken('records', 'mem3', 1)} %), from image to text" in text
    assert f"from image to text {taken('records', 'mem3', 0)} %" in text
    assert f"in place of its own it takes {taken('records', 'mem-wordwise', 0, 1)} %" in text
    assert f"in front of each caption take more**: {taken('records', 'random-trigger', 0, 1)} %" in text
    assert f"MEM's trigger without its noise takes {taken('records', 'trigger-only', 0, 1)} %" in text
    assert f"in front of all captions take {taken('records', 'same-words', 0, 1)} %" in text
    assert f"Text hints take {taken('records', 'text-hint', 0, 1)} %" in text
    assert f"word-wise EM {taken('records', 'em-wordwise', 0, 1)} %" in text
    assert f"or {taken('on-checkpoint', 'mem3', 0, 1)} % of the gain" in text


def test_what_is_said_of_coarse_noise_is_what_its_records_say() -> None:
    """Shares of the clean victim of the same seed, under the same defense."""
    clean, folder = recalls_at_tiny(), RESULTS / "regime" / "crops"
    rows: dict[tuple[int, int], dict[str, float]] = {}
    for one in load_records(folder / "tiny-epsilon"):
        if one.attack.spec != "clean":
            defense, seed = one.defense.spec, one.seed
            kept = 100 * one.last.test.mean_recall_at_10 / clean["clean", defense][seed]
            own = rows.setdefault((int(one.attack.params["eps"]), seed), {"psnr": one.poison["psnr"]})
            own |= {"ssim": one.poison["ssim"], defense: kept}
    assert len(rows) == 9
    text = " ".join((folder / "README.md").read_text("utf-8").split())
    for (eps, seed), own in rows.items():
        shares = " | ".join(f"{own[defense]:.0f} %" for defense in ("none", "crop-flip", "jpeg"))
        assert f"| {eps} | {seed} | {own['psnr']:.1f} dB | {own['ssim']:.2f} | {shares} |" in text
    at_8 = {defense: [rows[8, seed][defense] for seed in (1, 2, 3)] for defense in ("crop-flip", "jpeg")}
    crops, jpeg = (f"{fmean(own):.0f} ± {stdev(own):.0f} %" for own in at_8.values())
    assert f"At ε = 8 they leave {crops} under crops and {jpeg} under JPEG" in text
    ends = {eps: [rows[eps, seed][defense] for seed in (1, 2, 3) for defense in at_8] for eps in (8, 16)}
    assert f"leave {min(ends[8]):.0f} to {max(ends[8]):.0f} % on three seeds" in text
    taken = (f"{100 - max(own):.0f} to {100 - min(own):.0f} % at `tiny` (three seeds)" for own in ends.values())
    method = " ".join(Path("docs/method.md").read_text("utf-8").split())
    assert all(said in method for said in taken)
