"""Other people's attacks and defenses: found, usable by name everywhere, and held to what all of them promise."""

import re
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attacks import ATTACKS, Poison
from attacks.base import Attack
from benchmark.cli.main import main
from benchmark.contracts import check
from benchmark.core.errors import UsageError
from benchmark.core.plugins import load_file, load_installed, source_of
from benchmark.data import DATASETS
from benchmark.grid.records import load_records
from defenses import DEFENSES, Defense, HookContext
from defenses.base import Loss
from defenses.cutout import Cutout
from tests.harness.grids import ATTACK, SCENES, run

DARK = """
from defenses.base import DEFENSES, Defense

@DEFENSES.register("{name}")
class Dark(Defense):
    '''Images lose light.'''

    def __init__(self, share: float = {share}) -> None:
        self.share = share

    def on_images(self, images, at):
        return images * (1 - self.share)
"""
SPECKLE = """
import numpy as np
from attacks.base import ATTACKS, Attack
from attacks.poison import Poison

@ATTACKS.register("speckle")
class Speckle(Attack):
    '''One bright pixel.'''

    version = 1

    def __init__(self, eps: int = 8) -> None:
        self.eps = eps

    def label(self):
        return "Speckle"

    def progress_steps(self, train):
        return 0

    def craft(self, train, surrogate, *, seed, device, workdir, progress, checkpoint=None):
        delta = np.zeros(train.images.shape, np.int8)
        delta[:, :, 3, 3] = np.minimum(self.eps, 255 - train.images[:][:, :, 3, 3])
        return Poison(delta, None, self.eps, train.fingerprint)
"""

FAINT = '''
from dataclasses import replace
from attacks.base import ATTACKS
from attacks.mem import Mem

@ATTACKS.register("faint")
class Faint(Mem):
    """MEM with half of its noise."""

    part_of = "mem"

    def label(self):
        return "Faint"

    def derive_from(self, whole):
        return replace(whole, delta=whole.delta[:] // 2)
'''


@pytest.fixture(autouse=True)
def registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    attacks, defenses, datasets = ATTACKS.entries(), DEFENSES.entries(), DATASETS.entries()
    monkeypatch.setattr(ATTACKS, "_entries", {entry.name: entry for entry in attacks})
    monkeypatch.setattr(DEFENSES, "_entries", {entry.name: entry for entry in defenses})
    monkeypatch.setattr(DATASETS, "_entries", {entry.name: entry for entry in datasets})


def test_a_plugin_file_is_usable_by_name_everywhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("dark.py", DARK.format(name="dark", share=0.5)), ("speckle.py", SPECKLE)):
        (tmp_path / name).write_text(text)
    plugins = ("--plugin", str(tmp_path / "dark.py"), "--plugin", str(tmp_path / "speckle.py"))
    assert run(tmp_path / "out", *plugins, attack="speckle[eps=4]", defense="dark+cutout", epochs=1) == 0
    assert "Dark + Cutout" in capsys.readouterr().out
    (record,) = (r for r in load_records(tmp_path / "out") if r.defense.spec == "dark+cutout")
    assert record.status == "done"
    assert record.attack.label == "Speckle"
    assert record.poison["largest"] == 4
    assert record.defense.params["dark"] == {"share": 0.5}
    assert main(["list", "defenses", *plugins]) == 0
    assert "dark[share=0.5]  Images lose light." in capsys.readouterr().out


def test_a_part_of_another_attacks_poison_crafts_nothing_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "faint.py").write_text(FAINT)
    faint = ATTACK.replace("mem[", "faint[")
    flags = ("--plugin", str(tmp_path / "faint.py"))
    assert run(tmp_path / "out", *flags, attack=f"{ATTACK},{faint}", defense="none", epochs=1) == 0
    assert len(list((tmp_path / "out" / "poisons").glob("*.safetensors"))) == 1
    assert capsys.readouterr().err.count("crafted ") == 1
    poisons = {r.attack.label: r.poison for r in load_records(tmp_path / "out")}
    assert poisons["Faint"]["largest"] == poisons["MEM-2"]["largest"] // 2 > 0
    assert poisons["Faint"]["trigger_words"] == poisons["MEM-2"]["trigger_words"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('    part_of = "mem"\n', '    part_of = "uniform-noise"\n', None),
        ('    part_of = "mem"\n', '    part_of = "delta-only"\n', "part of delta-only, which is a part itself"),
        ("(Mem):", "(UniformNoise):", "is a part of mem and lacks its batch_size, candidates"),
    ],
)
def test_what_an_attack_may_be_a_part_of(
    old: str, new: str, said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    imported = "from attacks.uniform_noise import UniformNoise\n"
    (tmp_path / "faint.py").write_text(imported + FAINT.replace(old, new))
    flags = ("--plugin", str(tmp_path / "faint.py"), "--dry-run")
    # One that takes more parameters than the whole may be a part of it.
    spec = "faint" if "Uniform" in new else "faint[batch_size=16]"
    assert run(tmp_path / "out", *flags, attack=spec, defense="none") == (2 if said else 0)
    assert (said or "") in capsys.readouterr().err


def test_attacks_whose_classes_share_a_name_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("speckle", "spot"):
        (tmp_path / f"{name}.py").write_text(SPECKLE.replace('register("speckle")', f'register("{name}")'))
    plugins = [word for name in ("speckle", "spot") for word in ("--plugin", str(tmp_path / f"{name}.py"))]
    assert run(tmp_path / "out", "--dry-run", *plugins, attack="speckle,spot,spot[eps=8]", defense="none") == 0
    assert "3 cells, 3 to run" in capsys.readouterr().err


def test_seeds_of_changed_plugin_code_are_not_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, share in ((1, 0.5), (2, 0.25)):
        file = tmp_path / f"dark{seed}.py"
        file.write_text(DARK.format(name="dark", share=0.5).replace("1 - self.share", f"1 - {share}"))
        DEFENSES._entries.pop("dark", None)
        flags = ("--plugin", str(file), "--seeds", f"{seed},")
        assert run(tmp_path / "out", *flags, attack="clean", defense="dark", epochs=1) == 0
    capsys.readouterr()
    assert main(["table", "2", "--records", str(tmp_path / "out")]) == 2
    assert "records mix settings of defense dark: code or files=" in capsys.readouterr().err


def test_changed_plugin_code_is_another_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plans = []
    for number, share in enumerate((0.5, 0.25)):
        file = tmp_path / f"dark{number}.py"
        # The same name and parameters, other code.
        file.write_text(DARK.format(name="dark", share=0.5).replace("1 - self.share", f"1 - {share}"))
        DEFENSES._entries.pop("dark", None)
        flags = ("--plugin", str(file), "--dataset", SCENES)
        assert run(tmp_path / "out", *flags, attack="clean", defense="dark", epochs=1) == 0
        plans.append(capsys.readouterr().err.splitlines()[0])
    assert "2 cells, 2 to run" in plans[0]
    assert "2 cells, 1 to run" in plans[1]
    assert source_of(Cutout) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no plugin file"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "division by zero"),
        ("raise SystemExit(7)", "SystemExit: 7"),
        (DARK.format(name="cutout", share=0.5), "'cutout' is registered twice"),
        (DARK.format(name="my dark", share=0.5), "'my dark': letters, digits"),
        (DARK.format(name="all", share=0.5), "'all' has the name of a group"),
        (DARK.format(name="table2", share=0.5), "'table2' has the name of a group"),
        (DARK.format(name="dark", share=0.5).replace("(Defense)", ""), "'dark': Dark is no Defense"),
        (DARK.format(name="dark", share=0.5).replace("share: float", "share"), "'share' needs a type hint"),
        (DARK.format(name="dark", share=0.5).replace("share: float", "share: list[int]"), "'share' needs a type hint"),
        (DARK.format(name="dark", share=0.5).replace("share: float = 0.5", "**share: float"), "'share' needs a type"),
    ],
)
def test_a_plugin_that_fails_is_named(text: str | None, said: str, tmp_path: Path, capsys: Any) -> None:
    if text is not None:
        (tmp_path / "own.py").write_text(text)
    assert main(["list", "defenses", "--plugin", str(tmp_path / "own.py")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "own.py" in error
    assert len(error.splitlines()) == 1


def test_values_that_a_constructor_refuses_take_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picky = DARK.format(name="picky", share=0.5).replace("self.share = share", "self.share = 1 / int(share * 0 + 'x')")
    (tmp_path / "picky.py").write_text(picky)
    plugin = ("--plugin", str(tmp_path / "picky.py"))
    for command in (["contract", "defense", "picky"], ["run", "--defense", "picky", "--dry-run"]):
        assert main([*command, *plugin]) == 2
        assert re.fullmatch(r"error: defense picky: unsupported operand .*\n", capsys.readouterr().err)


def test_an_attack_that_returns_no_poison_takes_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.py").write_text(SPECKLE.replace("speckle", "empty").replace("return Poison(", "Poison("))
    flags = ["--plugin", str(tmp_path / "empty.py"), "--dataset", SCENES, "--poisons", str(tmp_path / "poisons")]
    out = tmp_path / "out"
    assert main(["export", "--attack", "empty", "--format", "csv", "--out", str(out), *flags]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == "error: attack empty: craft returned NoneType, not a Poison"
    assert not out.exists()


def test_installed_packages_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "their_package.py").write_text(DARK.format(name="theirs", share=0.5))
    info = tmp_path / "their_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[unlearnable_bench]\ntheirs = their_package\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    load_installed()
    assert DEFENSES.entry("theirs").summary == "Images lose light."
    (info / "entry_points.txt").write_text("[unlearnable_bench]\ntheirs = no_such_module\n")
    with pytest.raises(UsageError, match=r"plugin theirs \(no_such_module\) fails"):
        load_installed()
    assert metadata.version("their-package") == "1.0"


@pytest.mark.parametrize("name", DEFENSES.group("all"))
def test_every_defense_keeps_its_contract(name: str) -> None:
    assert not check("defense", name).broken


@pytest.mark.parametrize("spec", ["clean", "mem[k=0]", "mem[k=2,vocabulary=8]", "mem[k=1,vocabulary=8,per=row]"])
def test_every_attack_keeps_its_contract(spec: str) -> None:
    verdict = check("attack", spec)
    assert not verdict.broken
    assert len(verdict.kept) >= 5


class Nuisance(Defense):
    """Breaks one promise."""

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        if self.fault == "drops a caption":
            return captions[1:]
        if self.fault == "changes its argument":
            captions[0] = "moon"
        if self.fault == "raises":
            raise RuntimeError("no luck")
        if self.fault == "counts its calls":
            self.calls = getattr(self, "calls", 0) + 1
            return captions if self.calls % 2 else [caption.upper() for caption in captions]
        if self.fault == "loses the captions":
            return None  # type: ignore[return-value]
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        faults: dict[str, Callable[[], Any]] = {
            "leaves the range": lambda: images + 1,
            "widens": lambda: images.double(),
            "draws from global state": lambda: images * torch.rand(()),
            "keeps a gradient": lambda: images.clone().requires_grad_(),
            "loses the images": lambda: None,
        }
        return faults.get(self.fault, lambda: images)()

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.fault == "returns images alone":
            return images  # type: ignore[return-value]
        return images, targets / 2 if self.fault == "halves the targets" else targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        return images

    def describe(self) -> str:
        return "two\nlines" if self.fault == "talks too much" else "one line"


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("none", None),
        ("drops a caption", "as many captions"),
        ("changes its argument", "arguments stay"),
        ("leaves the range", "within 0 and 1"),
        ("widens", "shape and dtype"),
        ("draws from global state", "global random state"),
        ("keeps a gradient", "keeps a gradient"),
        ("halves the targets", "add up to one"),
        ("talks too much", "one line"),
        ("raises", "every hook answers: RuntimeError: no luck"),
        ("counts its calls", "seed decides everything: ValueError: a second call answers otherwise"),
        ("loses the captions", "as many captions"),
        ("loses the images", "shape and dtype"),
        ("returns images alone", "every hook answers: "),
    ],
)
def test_a_broken_promise_of_a_defense_is_found(fault: str, promise: str | None) -> None:
    DEFENSES.register("nuisance")(Nuisance)
    broken = check("defense", f"nuisance[fault={fault}]").broken
    assert any(promise in line for line in broken) if promise else not broken


class Careless(Attack):
    """Breaks one promise."""

    version = 1
    drawn = 0

    def __init__(self, fault: str) -> None:
        self.fault = fault

    def label(self) -> str:
        return "Careless"

    def progress_steps(self, train: Any) -> int:
        return 0

    def craft(self, train: Any, surrogate: Any, *, seed: int, **others: Any) -> Poison:
        images = train.images[:].astype(int)
        delta = np.clip(np.full(images.shape, 4), -images, 255 - images).astype(np.int8)
        trigger = ["red dog"] * len(train)
        if self.fault == "overflows":
            delta[:] = 4
        if self.fault == "another size":
            delta = delta[:, :, 1:]
        if self.fault == "writes on the images":
            train.images[0, 0, 0, 0] ^= 1
        if self.fault == "forgets the seed":
            Careless.drawn += 1
            delta[0, 0, 0, 0] = Careless.drawn % 3
        if self.fault == "counts its calls":
            self.calls = getattr(self, "calls", 0) + 1
            delta[0, 0, 0, 0] = self.calls % 2
        if self.fault == "has no checkpoint" and "checkpoint" in others:
            raise TypeError("unexpected keyword argument")
        if self.fault == "global state":
            np.random.rand()
        if self.fault == "raises":
            raise RuntimeError("no\nluck")
        if self.fault == "returns nothing":
            return None  # type: ignore[return-value]
        if self.fault == "beyond ε":
            delta[0, 0, 0, 0] = 9
        if self.fault == "floats":
            delta = delta.astype(np.float32)
        if self.fault == "too few triggers":
            trigger = trigger[1:]
        return Poison(delta, trigger, 8, train.fingerprint)


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("none", None),
        ("overflows", "within 0 and 255"),
        ("writes on the images", "training set stays"),
        ("forgets the seed", "same seed"),
        ("global state", "global random state"),
        ("counts its calls", "same seed"),
        ("has no checkpoint", "crafting ends with a poison: TypeError: unexpected keyword argument"),
        ("raises", "crafting ends with a poison: RuntimeError: no luck"),
        ("returns nothing", "crafting ends with a poison: TypeError: craft returned NoneType"),
        ("beyond ε", "crafting ends with a poison: DamagedPoison"),
        ("floats", "crafting ends with a poison: "),
        ("too few triggers", "a trigger for every image"),
        ("another size", "the images' shape"),
    ],
)
def test_a_broken_promise_of_an_attack_is_found(fault: str, promise: str | None) -> None:
    ATTACKS.register("careless")(Careless)
    broken = check("attack", f"careless[fault={fault}]").broken
    assert any(promise in line for line in broken) if promise else not broken


def test_a_composition_has_a_contract_as_well() -> None:
    verdict = check("defense", "cutout+random-swap")
    assert not verdict.broken
    assert len(verdict.kept) >= 9


def test_a_class_that_lacks_a_method_is_told_in_one_line() -> None:
    class Unfinished(Attack):
        """Nothing but a name."""

        def label(self) -> str:
            return "Unfinished"

    ATTACKS.register("unfinished")(Unfinished)  # type: ignore[type-abstract]
    with pytest.raises(UsageError, match=r"attack unfinished lacks craft\(\), progress_steps\(\)"):
        check("attack", "unfinished")


def test_a_plugin_without_a_class_is_told_but_may_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "forgot.py").write_text("class Own:\n    pass\n")
    assert main(["list", "defenses", "--plugin", str(tmp_path / "forgot.py")]) == 0
    assert "forgot.py registers no attack, defense or data set" in capsys.readouterr().err


def test_a_plugin_that_takes_one_of_our_names_is_told_in_a_fresh_process(tmp_path: Path) -> None:
    """Where nothing of ours has been imported yet."""
    (tmp_path / "own.py").write_text(DARK.format(name="cutout", share=0.5))
    command = [sys.executable, "-m", "benchmark", "list", "defenses", "--plugin", str(tmp_path / "own.py")]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: plugin .*own\.py fails: .*'cutout' is registered twice\n", done.stderr)


def test_the_contract_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dark.py").write_text(DARK.format(name="dark", share=0.5))
    assert main(["contract", "defense", "dark", "--plugin", str(tmp_path / "dark.py")]) == 0
    assert "✓ images stay within 0 and 1" in capsys.readouterr().out
    assert main(["contract", "defense", "dark[share=-1]"]) == 1
    assert "✗ images stay within 0 and 1" in capsys.readouterr().out
    load_file(tmp_path / "dark.py")  # a second time changes nothing


def tutorials(file: Path, number: int) -> Path:
    """Write the tutorial's example of that number, from 1, into a file."""
    text = (Path(__file__).parents[1] / "docs" / "own-attack.md").read_text()
    file.write_text(text.split("```python\n")[number].split("```")[0])
    return file


def test_the_tutorials_attack_is_one_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tutorials(tmp_path / "checker.py", 1)
    plugin = ("--plugin", str(tmp_path / "checker.py"))
    assert main(["contract", "attack", "checker", *plugin]) == 0
    assert run(tmp_path / "out", *plugin, attack="checker[eps=5]", defense="none", epochs=1) == 0
    (record,) = (r for r in load_records(tmp_path / "out") if r.attack.label == "Checker")
    assert record.poison["largest"] == 5


def test_the_tutorials_data_set_is_one_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ("--plugin", str(tutorials(tmp_path / "arrays.py", 2)))
    sizes = {"train": 24, "val": 4, "test": 4}
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    arrays |= {f"{split}_images": rng.integers(0, 256, (n, 3, 20, 20), dtype=np.uint8) for split, n in sizes.items()}
    arrays |= {f"{split}_captions": np.array([f"a {split} {i}" for i in range(n)]) for split, n in sizes.items()}
    np.savez(tmp_path / "photos.npz", **arrays)
    source = f"arrays[file={tmp_path / 'photos.npz'}]"
    assert run(tmp_path / "out", *plugin, "--dataset", source, defense="none", epochs=1) == 0
    records = load_records(tmp_path / "out")
    assert {one.attack.label for one in records} == {"Clean", "MEM-2"}
    assert {one.dataset.params["train_images"] for one in records} == {24}
    assert main(["run", *plugin, "--dataset", "arrays[file=nowhere.npz]"]) == 2
    assert "no file nowhere.npz" in capsys.readouterr().err
