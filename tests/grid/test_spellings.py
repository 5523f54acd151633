"""Two spellings of one cell: it runs once, has one record, and the plan tells cells apart."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from attacks import ATTACKS
from benchmark.core.errors import UsageError
from benchmark.core.spec import Spec
from benchmark.grid.choices import choose_attacks, choose_defenses
from benchmark.grid.presets import PRESETS, Preset
from benchmark.grid.records import Record, load_records
from defenses import DEFENSES
from tests.grid.grids import ATTACK, run
from tests.tables.factory import record


def test_two_spellings_are_one_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    defenses = "prefix-drop,prefix-drop[n=3],cutout+random-noise,random-noise+cutout"
    assert run(tmp_path, "--dry-run", attack=f"{ATTACK},{ATTACK.replace('k=2', 'eps=8,k=2')}", defense=defenses) == 0
    # Clean, and the attack under none, prefix-drop and the two orders of a composition, which are two defenses.
    assert "5 cells, 5 to run" in capsys.readouterr().err


@pytest.mark.parametrize("preset", PRESETS.values(), ids=lambda preset: preset.name)
def test_defaults_that_are_spelled_out_make_no_cell_of_their_own(preset: Preset) -> None:
    for entry in DEFENSES.entries():
        params = DEFENSES.resolve(Spec(entry.name), preset.defense.get(entry.name))
        written = Spec(entry.name, DEFENSES.written(Spec(entry.name), preset.defense.get(entry.name)))
        spelled = choose_defenses(f"{entry.name},{written}", preset)
        assert [one.choice.spec for one in spelled] == list(dict.fromkeys(["none", entry.name]))
        (_, *alone) = choose_defenses(str(written), preset)
        assert json.dumps([one.choice.params for one in alone]) == json.dumps([{entry.name: params}] * len(alone))
    for alias in ATTACKS.entries():
        if alias.name in ("clean", "poison", "through"):
            continue
        params = ATTACKS.resolve(Spec(alias.name), preset.attack_values(alias.name))
        free = {key: value for key, value in params.items() if key not in alias.fixed}
        (named,) = (one.name for one in ATTACKS.entries() if one.factory is alias.factory and not one.fixed)
        for other in (Spec(alias.name, free), Spec(named, params)):
            both = choose_attacks(f"{alias.name},{other}", preset)
            assert [one.choice.spec for one in both] == ["clean", alias.name], other


def test_the_plan_tells_attacks_of_one_label_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weaker = ATTACK.replace("k=2", "eps=4,k=2")
    assert run(tmp_path, "--dry-run", attack=f"{ATTACK},{weaker}", defense="none") == 0
    plan = capsys.readouterr().err
    assert all(f" {spec} " in plan for spec in (ATTACK, weaker))


def test_a_cell_is_known_under_another_spelling(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, defense="prefix-drop") == 0
    capsys.readouterr()
    same = ATTACK.replace("k=2", "eps=8,k=2")
    assert run(tmp_path, attack=same, defense="prefix-drop[n=3]") == 0
    printed = capsys.readouterr()
    assert "3 cells, 0 to run" in printed.err
    assert "prefix-drop[n=3]" in printed.out
    assert "eps=8" in printed.out
    # Under its new name it is there for the other commands, too.
    (old,) = (one for one in load_records(tmp_path) if one.defense.spec == "prefix-drop")
    (new,) = (one for one in load_records(tmp_path) if one.defense.spec == "prefix-drop[n=3]")
    assert (new.key, new.epochs, new.attack.spec) == (old.key, old.epochs, same)


@pytest.mark.parametrize("rerun", [[], ["--rerun", "all"]], ids=["missing", "all"])
def test_a_failed_record_of_this_spelling_hides_no_finished_one_of_another(
    rerun: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, attack=ATTACK.replace("k=2", "eps=8,k=2"), defense="none") == 0
    (done,) = (one for one in load_records(tmp_path) if one.attack.spec != "clean")
    failed = replace(done, attack=replace(done.attack, spec=ATTACK)).failed("MemoryError", "none is left", "")
    failed.save(tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == 3
    capsys.readouterr()
    assert run(tmp_path, *rerun, defense="none") == 0
    assert f"2 cells, {2 if rerun else 0} to run" in capsys.readouterr().err
    assert {record.status for record in load_records(tmp_path)} == {"done"}


def test_a_copied_file_counts_once_and_another_record_of_the_cell_is_told_with_its_file(tmp_path: Path) -> None:
    path = record("mem3").save(tmp_path)
    copy = tmp_path / f"{path.stem} (copy).json"
    shutil.copy(path, copy)
    assert load_records(tmp_path) == [Record.load(path)]
    elsewhere = replace(Record.load(path), seconds={"train": 1.0})
    copy.write_bytes(elsewhere.save(tmp_path / "elsewhere").read_bytes())
    with pytest.raises(UsageError) as caught:
        load_records(tmp_path)
    for name in (path.name, copy.name):
        assert f" {name} (" in str(caught.value)
