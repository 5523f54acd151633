"""docs/submitting.md says what the rules are, and its example is read."""

import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from benchmark.data import DATASETS
from benchmark.grid.choices import choose_attacks, choose_defenses
from benchmark.grid.presets import PRESETS
from benchmark.grid.records import load_records
from benchmark.reference_check.quantities import recall
from benchmark.submission.folder import read_about
from benchmark.submission.page import leaderboard_page
from benchmark.submission.rerun import allowed
from benchmark.submission.rules import RULES
from benchmark.tables.entries import About, load_entries

TEXT = Path("docs/submitting.md").read_text("utf-8")


def test_the_commands_run_what_the_rules_ask_for() -> None:
    attack, defense = map(shlex.quote, RULES.settings("attack", "my-noise"))
    assert f"run --attack {attack} --defense {defense} --seeds {RULES.least_seeds} " in TEXT
    assert f"'uniform-noise[eps={RULES.eps}]' --defense none --seeds {RULES.least_seeds} " in TEXT
    attack, defense = map(shlex.quote, RULES.settings("defense", "my-defense"))
    assert f"run --attack {attack} --defense {defense} --seeds {RULES.least_seeds} " in TEXT
    assert f"Version {RULES.version}." in TEXT
    assert f"| `{RULES.preset}`: data" in TEXT
    assert f"at most {RULES.eps}/255" in TEXT
    *first, last = (f"{least:g}" for least in RULES.attacks.values())
    assert f"they have to take at least {', '.join(first)} and {last} % of the recall" in TEXT


def test_the_rules_name_what_exists() -> None:
    preset = PRESETS[RULES.preset]
    assert preset.dataset in [entry.name for entry in DATASETS.entries()]
    assert len(choose_attacks(",".join(RULES.attacks), preset)) == 1 + len(RULES.attacks)
    defenses = [one.choice.spec for one in choose_defenses(RULES.defenses, preset)]
    assert {"none", "prefix-drop", "jpeg", "crop-flip", "rare-prefix", "tile-average"} <= set(defenses)


@pytest.mark.parametrize("attack", ["em", "mem3"])
def test_the_ranges_of_a_re_run_are_those_of_the_records(attack: str) -> None:
    defenses = [one.choice.spec for one in choose_defenses(RULES.defenses, PRESETS[RULES.preset])]
    asked = {(data, defense) for data in ("clean", attack) for defense in defenses} | {("uniform-noise", "none")}
    records = [one for one in load_records(Path("results/tiny/records")) if one.victim.spec == RULES.preset]
    held = [one for one in records if (one.attack.spec, one.defense.spec) in asked]
    for data, spec in (("poisoned", attack), ("clean", "clean")):
        own = [one for one in held if (one.attack.spec, one.defense.spec) == (spec, "none")]
        _, middle, _ = sorted(own, key=recall)
        low, high = allowed(middle, held)
        span = f"{low:.0f} to {high:.0f} %" if low > 0 else f"up to {high:.0f} %"
        assert f"| `{attack}` | {data} | {recall(middle):.0f} % | {span} |" in TEXT


def test_the_example_is_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "submission.yaml").write_text(example, "utf-8")
    (tmp_path / "my_noise.py").touch()
    about, plugin = read_about(tmp_path)
    assert (about.name, plugin) == ("my-noise", tmp_path / "my_noise.py")
    assert {one.name for one in fields(About)} <= set(re.findall(r"^(\w+):", example, re.MULTILINE))


def test_the_page_in_the_repository_is_of_its_entries() -> None:
    folder = Path("results/leaderboard")
    assert (folder / "README.md").read_text("utf-8") == leaderboard_page(load_entries(folder))
