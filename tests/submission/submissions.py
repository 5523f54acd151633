"""Small real submissions: every cell ran, at a scale where victims learn nothing and take no time."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.cli.main import main
from benchmark.grid.presets import PRESETS, Preset
from benchmark.grid.records import Record, load_records
from benchmark.submission import rules as rules_file
from benchmark.submission.rules import Rules
from tests.grid.grids import SCENES
from victims.recipe import Recipe

RULES = Rules(preset="mini", defenses="prefix-drop", attacks={"lsp[keys=4]": 0})
PRESET = Preset(
    name="mini",
    summary="of tests",
    dataset=SCENES,
    victim="mini",
    surrogate="mini",
    recipe=Recipe(epochs=1, batch_size=16, rows="images", precision="fp32"),
)
PLUGIN = '''
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attacks import ATTACKS, Attack, Poison

Path(__file__).with_name("executed").touch()

@ATTACKS.register("speck")
@dataclass(frozen=True)
class Speck(Attack):
    """Some bright pixels, and a word."""

    eps: int = 4

    def craft(self, train, context):
        drawn = context.numpy_generator("noise").integers(-self.eps, self.eps + 1, train.images.shape)
        images = train.images[:].astype(int)
        delta = np.clip(drawn, -images, 255 - images).astype(np.int8)
        losses = {"loss_per_round": [2 / 3, 1 / 3]}
        return Poison(delta, ["dog"] * len(train), self.eps, train.fingerprint, provenance=losses)
'''
ABOUT = {
    "name": "latent-specks",
    "kind": "attack",
    "spec": "lsp[keys=4]",
    "title": "Latent specks",
    "authors": "A. Author, B. Author",
    "link": "https://example.org/paper",
    "licence": "MIT",
}
COMPOSED = "prefix-drop+random-swap"
KINDS: dict[str, dict[str, str]] = {
    "attack": {},
    "plugin": {"spec": "speck", "plugin": "speck.py"},
    "defense": {"kind": "defense", "spec": COMPOSED, "name": "dropped"},
}
_ATTACKS = {
    "attack": ("clean", "lsp[keys=4]", "uniform-noise[eps=8]"),
    "plugin": ("clean", "speck", "uniform-noise[eps=4]"),
    "defense": ("clean", "lsp[keys=4]"),
}


def use_small_rules(patch: pytest.MonkeyPatch) -> None:
    """Rules whose cells take no time, and code that a commit names."""
    patch.setattr(rules_file, "RULES", RULES)
    patch.setitem(PRESETS, "mini", PRESET)
    patch.setattr("benchmark.grid.draft.git_commit", lambda: "0" * 40)


def run_everything(folder: Path) -> None:
    """The cells of all kinds of submission, in one folder."""
    plugin = folder / "speck.py"
    plugin.write_text(PLUGIN)
    where = ["--out", str(folder / "records"), "--poisons", str(folder / "poisons"), "--device", "cpu"]
    settings = ["run", "--preset", "mini", "--seeds", "3", "--quiet", "--plugin", str(plugin), *where]
    assert main([*settings, "--attack", "clean,lsp[keys=4],speck", "--defense", f"prefix-drop,{COMPOSED}"]) == 0
    assert main([*settings, "--attack", "uniform-noise[eps=8],uniform-noise[eps=4]", "--defense", "none"]) == 0
    (folder / "executed").unlink()


def write_about(folder: Path, **changed: Any) -> None:
    """``submission.yaml``; JSON's strings are YAML's."""
    lines = [f"{key}: {json.dumps(value)}" for key, value in {**ABOUT, **changed}.items() if value is not None]
    (folder / "submission.yaml").write_text("\n".join(lines) + "\n", "utf-8")


def copy(everything: Path, folder: Path, kind: str) -> Path:
    """A submission that keeps the rules, made of the cells that have run."""
    (folder / "records").mkdir(parents=True)
    (folder / "poisons").mkdir()
    write_about(folder, **KINDS[kind])
    for record in load_records(everything / "records"):
        defended = COMPOSED if kind == "defense" else "prefix-drop"
        if record.attack.spec in _ATTACKS[kind] and record.defense.spec in ("none", defended):
            record.save(folder / "records")
    stems = {"clean": None, "lsp[keys=4]": "lsp", "speck": "speck"}
    for attack in _ATTACKS[kind]:
        pattern = f"{stems.get(attack) or ''}-seed*" if attack in stems else "uniform*"
        for path in (everything / "poisons").glob(pattern) if attack != "clean" else ():
            wanted = attack.partition("eps=")[2].rstrip("]")
            if not wanted or f'\\"eps\\": {wanted},'.encode() in path.read_bytes()[:2000]:
                shutil.copy(path, folder / "poisons")
    if kind == "plugin":
        shutil.copy(everything / "speck.py", folder)
    return folder


def record_of(folder: Path, attack: str, defense: str, seed: int) -> Record:
    """One of a submission's records."""
    wanted = (attack, defense, seed)
    (found,) = (
        one for one in load_records(folder / "records") if (one.attack.spec, one.defense.spec, one.seed) == wanted
    )
    return found


def forge(folder: Path, place: tuple[str, str, int], change: Callable[[Record], Record]) -> None:
    """Change a record, and give it the hash of what it then holds, as anyone can."""
    record = record_of(folder, *place)
    (folder / "records" / record.file_name()).unlink()
    change(record).save(folder / "records")


def with_recall(record: Record, points: float) -> Record:
    """The record with another recall after its last epoch, in both directions."""
    last = record.epochs[-1]

    def moved(value: float) -> float:
        return min(max(value + points, 0.0), 100.0)

    test = replace(
        last.test,
        **{
            direction: replace(
                getattr(last.test, direction),
                recall_at_1=0.0,
                recall_at_10=moved(getattr(last.test, direction).recall_at_10),
            )
            for direction in ("image_to_text", "text_to_image")
        },
    )
    return replace(record, epochs=(*record.epochs[:-1], replace(last, test=test)))
