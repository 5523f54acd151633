"""What ``check`` runs and what ``check --update`` replaces."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmark.cli.main import main
from benchmark.grid.records import Record, load_records
from benchmark.grid.runner import Grid
from benchmark.grid.settings import RunSettings
from benchmark.reference_check import REFERENCE
from benchmark.reference_check import runner as check
from benchmark.reference_check.intervals import compare, prediction, require_comparable
from tests.reference_check.seeds import records


@pytest.fixture
def planned_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No step is timed, and the scenes of fresh seeds are black, in a cache of their own."""

    def black(_: object, resolution: int) -> SimpleNamespace:
        return SimpleNamespace(paint=lambda *_: np.zeros((3, resolution, resolution), np.uint8))

    monkeypatch.setenv("UNLEARNABLE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("benchmark.data.scenes.Painter", black)
    monkeypatch.setattr("benchmark.grid.estimate._measured", lambda todo: {})


@pytest.mark.usefixtures("planned_only")
def test_the_committed_reference_is_of_todays_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preset that changes needs a new reference; so does a cell that check asks for."""
    reference = load_records(Path(__file__).parents[2] / REFERENCE / "records")
    monkeypatch.setattr("benchmark.grid.engines.local.run_grid", lambda *_: [])
    check._run(
        "99,",
        tmp_path / "out",
        tmp_path / "poisons",
        RunSettings(device="cpu"),
        lambda them: require_comparable(reference, them),
    )
    compared = compare(reference, _at_seed(reference, 99))
    passes = dict(zip([(one.cell, one.quantity.name) for one in compared], prediction(reference), strict=True))
    recall, cells = "R@10, %", ("MEM-3 × prefix-drop", "MEM-3 × cutout", "Clean × adv-training")
    changes = ("change of a pixel, 1/255", "words changed in a caption")
    numbers = ("crafting loss, nats", "noise, PSNR in dB")
    assert set(passes) == {
        *((cell, recall) for cell in ("Clean × none", "MEM-3 × none", "EM word-wise × none", *cells)),
        ("Clean × none", "R@1, %"),
        ("Data", "closest test images, 1/255"),
        *((poison, "words of a trigger") for poison in ("MEM-3", "EM word-wise")),
        *((cell, change) for cell in cells for change in changes),
        *((poison, number) for poison in ("MEM-3", "EM word-wise") for number in numbers),
    }
    mean = {(one.cell, one.quantity.name): one.reference for one in compared}
    # Where MEM-3 takes nothing, or prefix-drop is as weak as no defense, the reference lets neither pass.
    assert passes["MEM-3 × none", recall][1] < mean["Clean × none", recall]
    assert passes["MEM-3 × prefix-drop", recall][0] > mean["MEM-3 × none", recall]
    # Nor does it pass test scenes that lie in the training data with another texture; see tests/data/test_nearest.py.
    assert passes["Data", "closest test images, 1/255"][0] > 0.75 * mean["Data", "closest test images, 1/255"]
    # Nor a defense that changes nothing.
    assert passes["MEM-3 × prefix-drop", changes[1]][0] > 0
    assert min(passes[cell, changes[0]][0] for cell in cells[1:]) > 0


def _at_seed(reference: Sequence[Record], seed: int) -> list[Record]:
    """The first reference seed's records, as if they were fresh."""
    return [replace(one, seed=seed) for one in reference if one.seed == reference[0].seed]


def test_without_a_reference_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--reference", str(tmp_path / "nowhere")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_fresh_seeds_may_be_of_plain_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[bool] = []

    def run(*grids: RunSettings, known: Sequence[Record], **_: Any) -> list[Record]:
        assert known  # the reference's records, which tell how long cells take
        asked.extend(settings.plain_models for settings in grids)
        return [replace(records([5.0])[0], status="failed")]

    monkeypatch.setattr(check, "run", run)
    for flags in ([], ["--plain-models"]):
        assert main(["check", *flags]) == 1
    assert asked == [False] * len(check._GRIDS) + [True] * len(check._GRIDS)
    assert main(["check", "--plain-models", "--update"]) == 2
    assert "neither with --update" in capsys.readouterr().err


def test_workers_share_the_cells_unless_an_engine_or_their_number_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[object]] = []

    def run(*grids: RunSettings, **_: Any) -> list[Record]:
        asked.append({settings.jobs for settings in grids})
        return [replace(records([5.0])[0], status="failed")]

    monkeypatch.setattr(check, "run", run)
    for flags in ([], ["--jobs", "3"], ["--on", "local[jobs=2]"]):
        assert main(["check", *flags]) == 1
    assert asked == [{"auto"}, {3}, {None}]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--update", "--out", "DIR"], "--out has no meaning with --update"),
        (["--update", "--level", "0.05"], "--level has no meaning with --update"),
        (["--seeds", "0"], "--seeds must be from 1 to 1,000, got 0"),
        (["--seeds", "3000000000"], "--seeds must be from 1 to 1,000, got 3000000000"),
        (["--records", "DIR", "--seeds", "3"], "--seeds has no meaning with --records"),
        (["--records", "DIR", "--jobs", "2"], "--jobs has no meaning with --records"),
        (["--records", "DIR", "--device", "cpu"], "--device has no meaning with --records"),
        (["--update", "--records", "DIR", "--seeds", "9"], "--seeds has no meaning with --records"),
    ],
)
def test_flags_that_would_do_nothing_are_refused(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *flags]) == 2
    assert said in capsys.readouterr().err


# What passes with one fresh seed is 2.6 to 8.9, with three 3.5 to 7.5; far outside is beyond 14.5.
@pytest.mark.parametrize(
    ("recalls", "code"),
    [
        pytest.param([[5.0]], 0, id="inside"),
        pytest.param([[10.0], [5.0, 5.5]], 0, id="in-doubt-then-inside"),
        pytest.param([[10.0], [9.0, 8.0]], 1, id="in-doubt-then-outside"),
        pytest.param([[20.0]], 1, id="far-outside"),
        pytest.param([[9.0, 8.5], [5.0, 5.0, 5.0, 5.0]], 0, id="two-seeds-in-doubt"),
    ],
)
def test_more_seeds_decide_where_the_first_are_in_doubt(
    recalls: list[list[float]],
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for one in records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]):
        one.save(tmp_path / "records")
    waiting = list(recalls)
    ran: list[int] = []

    def run(seeds: str, *_: Any) -> list[Record]:
        numbers = [int(seed) for seed in seeds.split(",") if seed]
        ran.extend(numbers)
        of_seeds = zip(numbers, waiting.pop(0), strict=True)
        return [record for seed, recall in of_seeds for record in records([recall], first_seed=seed)]

    monkeypatch.setattr(check, "_run", run)
    first = len(recalls[0])
    assert main(["check", "--reference", str(tmp_path), "--seeds", str(first)]) == code
    assert not waiting
    assert len(set(ran)) == len(ran) == first * (3 if len(recalls) == 2 else 1)
    captured = capsys.readouterr()
    assert ("more seeds decide" in captured.err) == (len(recalls) == 2)
    last = captured.out.rsplit("Fresh seeds", maxsplit=1)[1]
    assert all(str(seed) in last for seed in ran)  # all together decide
    assert "Metrics" in captured.out


def test_update_writes_the_reference_and_drops_what_it_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usual = [5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]
    asked: list[str] = []
    commits = ["a1"]
    monkeypatch.setattr(check, "git_commit", lambda: commits[-1])

    def made(recalls: Sequence[float], key: str, finished: str) -> list[Record]:
        provenance = {
            "preset": "micro",
            "finished": finished,
            "commit": f"commit of {key}",
            "device": "a CPU",
            "versions": {"torch": key},
        }
        return [replace(one, key=f"{key}-{one.seed}", provenance=provenance) for one in records(recalls)]

    def run(seeds: str, out: Path, poisons: Path, device: str) -> list[Record]:
        asked.append(seeds)
        assert out.is_relative_to(poisons.parent)  # neither the reference's own folder nor the cache's poisons
        assert not out.is_relative_to(tmp_path / "records")
        fresh = made(usual, "new", "2026-02-01T00:00:00+00:00")
        for one in fresh:
            one.save(out)
        return fresh

    monkeypatch.setattr(check, "_run", run)
    for one in made([50.0] * 12, "old", "2026-01-01T00:00:00+00:00"):
        one.save(tmp_path / "records")
    assert main(["check", "--update", "--reference", str(tmp_path), "--seeds", "8"]) == 0
    assert "a reference of 8 seeds replaces one of 12" in capsys.readouterr().out
    assert asked == ["8"]
    assert {path.name for path in tmp_path.iterdir()} == {"records", ".records.lock", "README.md"}
    kept = load_records(tmp_path / "records")
    assert sorted(one.key for one in kept) == [f"new-{seed}" for seed in range(1, 9)]
    page = (tmp_path / "README.md").read_text("utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    (row,) = (row for row in rows if row[:1] == ["MEM-3 × none"])
    assert row[1:5] == ["R@10, %", "5.3 ± 0.8", "4.0 – 6.5", "8"]
    for cell, fresh in zip(row[5:], (1, 3), strict=True):
        ((low, high),) = prediction(made(usual, "new", ""), fresh)
        assert cell == f"{low:.1f} – {high:.1f}"
    assert "commit of new" in page
    assert "commit of old" not in page
    assert main(["check", "--update", "--reference", str(tmp_path), "--seeds", "7"]) == 2
    assert main(["check", "--update", "--reference", str(tmp_path), "--seeds", "12"]) == 0
    assert asked == ["8", "12"]
    # As many seeds as there are, unless told otherwise; and code that a commit names.
    for one in made([*usual, 5.0], "more", ""):
        one.save(tmp_path / "records")
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 0
    assert asked == ["8", "12", "9"]
    commits.append("a1-dirty")
    capsys.readouterr()
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 2
    assert "commit the changes of this checkout first" in capsys.readouterr().err
    assert len(asked) == 3


def test_kept_seeds_are_added_to_the_reference_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    provenance = {"preset": "micro", "finished": ""}
    for one in records([5.0] * 4 + [6.0] * 4):
        replace(one, provenance=provenance).save(tmp_path / "reference" / "records")
    for one in records([9.0, 9.5], first_seed=70):
        replace(one, provenance=provenance).save(tmp_path / "fresh")
    command = ["check", "--update", "--reference", str(tmp_path / "reference"), "--records", str(tmp_path / "fresh")]
    for said in ("a reference of 10 seeds replaces one of 8", "unchanged; its 10 seeds include all of"):
        assert main(command) == 0
        assert said in capsys.readouterr().out
        kept = load_records(tmp_path / "reference" / "records")
        assert {one.seed for one in kept} == {*range(1, 9), 70, 71}
        page = (tmp_path / "reference" / "README.md").read_text("utf-8")
        assert "check --update --seeds 8`, and 2 fresh seeds added by `check --update --records DIR`," in page
        assert "5.0 – 9.5" in page


ODD: dict[str, tuple[Callable[[Record], Record | None], str]] = {
    "other settings": (lambda one: replace(one, recipe={**one.recipe, "epochs": 99}), "other settings"),
    "half a seed": (lambda one: None if one.defense.spec == "cutout" else one, "differ in the cells MEM-3 × cutout"),
    "plain models": (lambda one: with_provenance(one, models="plain"), "is of open_clip's own modules"),
    "uncommitted code": (lambda one: with_provenance(one, commit="a1-dirty"), "code that no commit names"),
}


def with_provenance(one: Record, **facts: str) -> Record:
    return replace(one, provenance={"preset": "micro", "finished": "", **facts})


@pytest.mark.parametrize("kind", ODD)
def test_a_kept_seed_that_is_no_reference_is_not_added(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cells(first_seed: int, count: int) -> list[Record]:
        one_cell = [with_provenance(one) for one in records([5.0, 6.0] * (count // 2), first_seed)]
        return one_cell + [
            replace(one, defense=replace(one.defense, spec="cutout"), key=one.key[::-1]) for one in one_cell
        ]

    change, said = ODD[kind]
    for one in cells(1, 8):
        one.save(tmp_path / "reference" / "records")
    for each in [*cells(70, 2), *map(change, cells(80, 2))]:
        if each is not None:
            each.save(tmp_path / "fresh")
    before = sorted(path.name for path in (tmp_path / "reference" / "records").iterdir())
    command = ["check", "--update", "--reference", str(tmp_path / "reference"), "--records", str(tmp_path / "fresh")]
    assert main(command) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "reference" / "records").iterdir()) == before
    (tmp_path / "empty").mkdir()
    assert main([*command[:-1], str(tmp_path / "empty")]) == 2
    assert "holds no records" in capsys.readouterr().err


def test_seeds_that_the_reference_has_are_compared_with_it_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Records of other settings, whose seeds are the reference's, add nothing, and would be accepted unseen."""
    for one in records([5.0, 6.0] * 4):
        with_provenance(one).save(tmp_path / "reference" / "records")
        replace(with_provenance(one), recipe={**one.recipe, "epochs": 99}, key=one.key[::-1]).save(tmp_path / "fresh")
    command = ["check", "--update", "--reference", str(tmp_path / "reference"), "--records", str(tmp_path / "fresh")]
    assert main(command) == 2
    assert "has a seed of the reference, but other settings" in capsys.readouterr().err


def test_two_processes_may_make_one_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one has replaced the reference and removed the shared work when this one gets there."""
    monkeypatch.setattr(check, "git_commit", lambda: "a1")
    calls: list[int] = []

    def run(seeds: str, out: Path, poisons: Path, device: str) -> list[Record]:
        calls.append(len(calls))
        fresh = [replace(one, provenance={"preset": "micro"}) for one in records([5.0] * 8)]
        for one in fresh:
            one.save(out)
        if len(calls) == 1:
            assert main(["check", "--update", "--reference", str(tmp_path), "--seeds", "8"]) == 0
        return fresh

    monkeypatch.setattr(check, "_run", run)
    assert main(["check", "--update", "--reference", str(tmp_path), "--seeds", "8"]) == 0
    assert len(calls) == 2
    assert len(load_records(tmp_path / "records")) == 8
    assert {path.name for path in tmp_path.iterdir()} == {"records", ".records.lock", "README.md"}


def test_update_touches_no_records_but_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in records([5.0] * 8):
        replace(one, provenance={"preset": "tiny"}).save(tmp_path / "records")
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 2
    assert "holds records that are no reference" in capsys.readouterr().err
    assert len(load_records(tmp_path / "records")) == 8


@pytest.mark.usefixtures("planned_only")
def test_a_reference_of_other_settings_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Grid, "run", None)
    for one in load_records(Path(__file__).parents[2] / REFERENCE / "records"):
        replace(one, recipe={**one.recipe, "lr": 1.0}).save(tmp_path / "records")
    assert main(["check", "--reference", str(tmp_path)]) == 2
    assert "the reference was made with other settings than today's" in capsys.readouterr().err


def test_kept_records_are_compared_seed_by_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for one in records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]):
        one.save(tmp_path / "reference" / "records")
    command = ["check", "--reference", str(tmp_path / "reference"), "--records", str(tmp_path / "fresh")]
    assert main(command) == 2
    for one in records([5.2, 5.9], first_seed=20):
        one.save(tmp_path / "fresh")
    assert main(command) == 0
    assert "2 of 2 checks pass, 0 of them with more seeds." in capsys.readouterr().out
    records([25.0], first_seed=30)[0].save(tmp_path / "fresh")
    assert main(command) == 1
    out = capsys.readouterr().out
    assert "2 of 3 checks pass, 0 of them with more seeds." in out
    (line,) = (line for line in out.splitlines() if "2 of 3" in line and line.startswith("|"))
    *_, spread, inside, outside = (part.strip() for part in line.strip("|").split("|"))
    assert (spread, inside) == ("5.2 – 25.0", "2 of 3")
    assert outside.startswith("25.0 (")


def test_of_kept_records_those_that_follow_decide_where_a_seed_is_in_doubt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for one in records([5.0, 6.0, 4.5, 5.5, 6.5, 5.0, 4.0, 6.0]):
        one.save(tmp_path / "reference" / "records")
    command = ["check", "--reference", str(tmp_path / "reference"), "--records", str(tmp_path / "fresh")]
    for one in records([5.0, 5.0, 10.0], first_seed=20):
        one.save(tmp_path / "fresh")
    assert main(command) == 0
    out = capsys.readouterr().out
    # Three seeds, then all of them for the one in doubt.
    (outside,) = (line for line in out.splitlines() if line.startswith("|") and "3 of 4" in line)
    assert "10.0 (" in outside
    assert "3 of 3 checks pass, 1 of them with more seeds." in out
    # A seed alone has none to decide.
    for path in (tmp_path / "fresh").glob("*seed2[01]*"):
        path.unlink()
    assert main(command) == 1
    assert "0 of 1 checks pass" in capsys.readouterr().out


def test_a_failed_update_leaves_the_old_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in records([5.0] * 8):
        replace(one, provenance={"preset": "micro"}).save(tmp_path / "records")
    monkeypatch.setattr(check, "git_commit", lambda: None)
    monkeypatch.setattr(check, "_run", lambda *_: [replace(records([5.0])[0], status="failed")])
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 1
    assert len(load_records(tmp_path / "records")) == 8
    assert not (tmp_path / "README.md").exists()


def test_a_failed_update_runs_its_failed_cells_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run(*grids: RunSettings, **_: Any) -> list[Record]:
        asked.extend(settings.rerun for settings in grids)
        return [replace(records([5.0])[0], status="failed")]

    monkeypatch.setattr(check, "run", run)
    monkeypatch.setattr(check, "git_commit", lambda: "a1")
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 1
    assert set(asked) == {"failed"}
    assert capsys.readouterr().err.splitlines()[-1] == "the same command runs the failed cells again"


def test_an_update_takes_no_poisons_of_other_runs_from_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anew: list[bool] = []

    def run(*grids: RunSettings, poisons_anew: bool = False, **_: Any) -> list[Record]:
        anew.append(poisons_anew)
        return [replace(records([5.0])[0], status="failed")]

    monkeypatch.setattr(check, "run", run)
    monkeypatch.setattr(check, "git_commit", lambda: "a1")
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 1
    assert anew == [True]


def test_a_killed_update_leaves_the_old_reference_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "git_commit", lambda: "a1")
    for one in records([5.0] * 8):
        replace(one, provenance={"preset": "micro"}).save(tmp_path / "records")

    def run(seeds: str, out: Path, poisons: Path, device: str) -> list[Record]:
        if not out.is_dir():
            records([6.0])[0].save(out)
            raise KeyboardInterrupt
        assert len(load_records(out)) == 1
        return [replace(one, provenance={"preset": "micro", "finished": ""}) for one in records([6.0] * 8)]

    monkeypatch.setattr(check, "_run", run)
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 130
    assert {one.last.test.mean_recall_at_10 for one in load_records(tmp_path / "records")} == {5.0}
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 0
    assert {one.last.test.mean_recall_at_10 for one in load_records(tmp_path / "records")} == {6.0}


@pytest.mark.parametrize("killed_at", ["between the renames", "after them"])
def test_an_update_that_is_killed_in_its_swap_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    monkeypatch.setattr(check, "git_commit", lambda: "a1")
    for one in records([5.0] * 9):
        replace(one, provenance={"preset": "micro"}).save(tmp_path / "records")
    asked: list[str] = []

    def run(seeds: str, out: Path, poisons: Path, device: str) -> list[Record]:
        asked.append(seeds)
        fresh = [replace(one, provenance={"preset": "micro", "finished": ""}) for one in records([6.0] * 9)]
        for one in fresh:
            one.save(out)
        return fresh

    def killed(*arguments: object) -> str:
        raise KeyboardInterrupt

    def rename(source: Path, target: Path) -> Path:
        return killed() if source.name == "reference" else move(source, target)  # type: ignore[return-value]

    move = Path.replace
    monkeypatch.setattr(check, "_run", run)
    with monkeypatch.context() as once:
        if killed_at == "after them":
            once.setattr(check, "reference_page", killed)
        else:
            once.setattr(Path, "replace", rename)
        assert main(["check", "--update", "--reference", str(tmp_path)]) == 130
    assert main(["check", "--update", "--reference", str(tmp_path)]) == 0
    assert asked == ["9", "9"]
    assert {one.last.test.mean_recall_at_10 for one in load_records(tmp_path / "records")} == {6.0}
    assert {path.name for path in tmp_path.iterdir()} == {"records", ".records.lock", "README.md"}


def test_who_reads_the_reference_undoes_half_a_swap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The update may have been one at another commit, and nobody may ever run it again."""
    killed = tmp_path / ".update-a1"
    for place in ("replaced", "reference"):
        (killed / place).mkdir(parents=True)
    for one in records([5.0] * 8):
        one.save(killed / "replaced")
    (tmp_path / ".update-b2" / "replaced").mkdir(parents=True)  # killed after its swap
    (tmp_path / "fresh").mkdir()
    assert main(["check", "--reference", str(tmp_path), "--records", str(tmp_path / "fresh")]) == 2
    assert "holds no records" in capsys.readouterr().err
    assert len(load_records(tmp_path / "records")) == 8


@pytest.mark.usefixtures("planned_only")
def test_a_cell_too_many_in_the_reference_is_told_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Grid, "run", None)
    reference = load_records(Path(__file__).parents[2] / REFERENCE / "records")
    odd = next(one for one in reference if one.attack.spec == "mem3" and one.defense.spec == "prefix-drop")
    for one in [*reference, replace(odd, defense=replace(odd.defense, spec="mixup"))]:
        one.save(tmp_path / "records")
    assert main(["check", "--reference", str(tmp_path)]) == 2
    assert "differ in the cells MEM-3 × mixup" in capsys.readouterr().err
