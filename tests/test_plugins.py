"""Other people's attacks and defenses: found, usable by name everywhere, and held to what all of them promise."""

import os
import re
import subprocess
import sys
import types
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.api import RunSettings, load_dataset
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.core.plugins import load_file, load_installed, source_of
from benchmark.core.spec import Spec
from benchmark.grid.plugins import load_plugins
from benchmark.grid.records import load_records
from defenses import DEFENSES
from defenses.cutout import Cutout
from tests.export.photo_files import picture
from tests.grid.grids import ATTACK, SCENES, run

DARK = """
from dataclasses import dataclass
from defenses import DEFENSES, Defense

@DEFENSES.register("{name}")
@dataclass(frozen=True)
class Dark(Defense):
    '''Images lose light.'''

    share: float = {share}

    def on_images(self, images, at):
        return images * (1 - self.share)
"""
SPECKLE = """
from dataclasses import dataclass
import numpy as np
from attacks import ATTACKS, Attack, Poison

@ATTACKS.register("speckle")
@dataclass(frozen=True)
class Speckle(Attack):
    '''One bright pixel.'''

    eps: int = 8

    def craft(self, train, context):
        delta = np.zeros(train.images.shape, np.int8)
        delta[:, :, 3, 3] = np.minimum(self.eps, 255 - train.images[:][:, :, 3, 3])
        return Poison(delta, None, self.eps, train.fingerprint)
"""

GREY = """
import numpy as np
from benchmark.data import DATASETS, CaptionDataset, DatasetSource, Splits

@DATASETS.register("grey")
class Grey({base}):
    '''Grey images.'''

    def for_seed(self, seed):
        return {for_seed}

    def load(self, resolution, cache):
        def split(name, count):
            images = np.full((count, 3, {size}, {size}), 128, np.uint8)
            return CaptionDataset("grey", name, images, [["{caption}"] for number in range(count)])

        return Splits(split("{first}", {train}), {val}, split("test", {test}))
"""
HINTLESS, ANYTHING = "def __init__(self, share=0.5): pass", "def __init__(self, **share: float): pass"
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

    def derive_from(self, whole, train, context):
        return replace(whole, delta=whole.delta[:] // 2)
'''


pytestmark = pytest.mark.usefixtures("registries_as_they_were")


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
        ('    part_of = "mem"\n', '    part_of = "mme"\n', "attack faint: part_of: unknown attack 'mme'"),
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
    for command in (["table", "2"], ["report", "--out", str(tmp_path / "report.html")]):
        assert main([*command, "--records", str(tmp_path / "out")]) == 2
        said = capsys.readouterr().err
        assert "records mix settings of defense dark: code or files=" in said
        assert "its file, or one that it reads, changed between the runs" in said
    assert not (tmp_path / "report.html").exists()


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


def test_a_plugin_that_changed_since_it_ran_is_refused(tmp_path: Path) -> None:
    """A result of the old code must not get the address of the new."""
    file = tmp_path / "dark.py"
    file.write_text(DARK.format(name="dark", share=0.5))
    assert load_file(file)
    assert not load_file(file)
    ran = source_of(DEFENSES.entry("dark").factory)
    file.write_text(DARK.format(name="dark", share=0.6))
    assert source_of(DEFENSES.entry("dark").factory) == ran
    with pytest.raises(UsageError, match=r"dark\.py has changed"):
        load_file(file)


def test_a_plugin_that_failed_can_be_mended(tmp_path: Path) -> None:
    """What it had registered before it failed is forgotten."""
    file = tmp_path / "dark.py"
    file.write_text(DARK.format(name="dark", share=0.5) + "\n1 / 0\n")
    for _ in range(2):
        with pytest.raises(UsageError, match="division by zero"):
            load_plugins([file])
    assert "dark" not in DEFENSES.group("all")
    file.write_text(DARK.format(name="dark", share=0.5))
    load_plugins([file])
    assert "dark" in DEFENSES.group("all")


def test_what_runs_is_the_file_and_no_older_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python takes bytecode for the file's if size and second of the last change agree."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "dark.py"
    for share in (0.5, 0.6):
        file.write_text(DARK.format(name="dark", share=share))
        os.utime(file, (1e9, 1e9))
        assert load_file(file)
        assert DEFENSES.build(Spec("dark")).on_images(1.0, ()) == pytest.approx(1 - share)  # type: ignore[arg-type]
        DEFENSES._entries.pop("dark")
        del sys.modules[next(name for name in sys.modules if name.startswith("plugin_"))]


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
        (DARK.format(name="dark", share=0.5).replace("share: float = 0.5", HINTLESS), "'share' needs a type hint"),
        (DARK.format(name="dark", share=0.5).replace("share: float", "share: list[int]"), "'share' needs a type hint"),
        (DARK.format(name="dark", share=0.5).replace("float", "'lost'"), "name 'lost' is not defined (own.py, line 5)"),
        (
            DARK.format(name="dark", share=0.5).replace('"dark"', '"dark", groups="images"'),
            "'dark': groups is a tuple of names, such as ('images',)",
        ),
        (DARK.format(name="dark", share=0.5).replace("share: float = 0.5", ANYTHING), "'share' needs a type"),
        (
            DARK.format(name="dark", share=0.5).replace("share", "describe"),
            "a parameter hides 'describe' of every defense; give it another name",
        ),
        (
            DARK.format(name="dark", share=0.5)
            .replace("@DEF", "class Lamp(Defense):\n    def share(self): pass\n\n@DEF")
            .replace("Dark(Defense)", "Dark(Lamp)"),
            "a parameter hides 'share' of Lamp; give it another name",
        ),
        (
            DARK.format(name="dark", share=0.5).replace("@dataclass(frozen=True)", ""),
            "Dark has the parameters share",
        ),
        (
            DARK.format(name="dark", share=0.5).replace("images, at", "images"),
            "'dark': on_images is called with self, images, at, but takes self, images: too many positional arguments",
        ),
        (
            SPECKLE.replace("train, context", "train, context, seed"),
            "'speckle': craft is called with self, train, context, but takes self, train, context, seed: missing",
        ),
        (SPECKLE.replace("int = 8", "int = 'eight'"), "the default 'eight' of parameter 'eps' is not as its type hint"),
        (SPECKLE.replace("int = 8", "int = True"), "the default True of parameter 'eps' is not as its type hint"),
        (SPECKLE.replace("int = 8", "int = 8.0"), "the default 8.0 of parameter 'eps' is not as its type hint"),
        (
            GREY.replace("Grey({base})", "Grey(SeededSource)")
            .replace("import numpy", "from benchmark.data.seeded_source import SeededSource\nimport numpy")
            .replace("def for_seed(self, seed):\n        return {for_seed}", "def __init__(self): pass"),
            "Grey has an __init__ of its own, which does not take seed",
        ),
        (SPECKLE.replace("    eps: int", "    version = 'x'\n    eps: int"), "'speckle': version: Expected `int`"),
        (
            DARK.format(name="dark", share=0.5).replace("    share:", "    version = 'x'\n    share:"),
            "'dark': version: Expected `int`, got `str`",
        ),
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


def test_a_hook_whose_decorator_gives_it_more_is_accepted(tmp_path: Path) -> None:
    decorator = """
from functools import wraps

def with_seed(method):
    @wraps(method)
    def given(self, train, context):
        return method(self, train, context, context.seed)
    return given
"""
    text = decorator + SPECKLE.replace(
        "    def craft(self, train, context)", "    @with_seed\n    def craft(self, train, context, seed)"
    )
    (tmp_path / "speckle.py").write_text(text)
    assert main(["list", "attacks", "--plugin", str(tmp_path / "speckle.py")]) == 0


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"size": 48}, "data set grey gives train images of 48 × 48 px, asked for 32"),
        ({"first": "val"}, "data set grey calls its train split 'val'"),
        ({"test": 0}, "data set grey has no test images"),
        ({"val": 'split("val", 0)'}, "data set grey has no val images"),
        ({"val": None}, "data set grey must load a CaptionDataset as its val split, not NoneType"),
        ({"for_seed": "5"}, "data set grey: for_seed() returns int, not a DatasetSource"),
        ({"caption": " "}, "data set grey has a blank caption among its train captions"),
        ({"base": "object"}, "'grey': Grey is no DatasetSource (grey.py, line"),
        ({}, None),
    ],
)
def test_data_that_a_plug_in_should_not_load_are_refused(
    faults: dict[str, Any], said: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"base": "DatasetSource", "train": 40, "val": 'split("val", 8)', "test": 12, "size": "resolution"}
    values |= {"caption": "a dog", "for_seed": "self", "first": "train"}
    (tmp_path / "grey.py").write_text(GREY.format(**values | faults))
    flags = ["--dataset", "grey", "--plugin", str(tmp_path / "grey.py"), "--dry-run", "--out", str(tmp_path / "out")]
    assert main(["run", "--attack", "clean", "--preset", "micro", "--batch-size", "16", *flags]) == (2 if said else 0)
    error = capsys.readouterr().err
    if said:
        assert said in error
        assert error.count("\n") == 1


def test_values_that_a_constructor_refuses_take_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = "    def __post_init__(self):\n        self.share + 'x'\n\n    def on_images"
    picky = DARK.format(name="picky", share=0.5).replace("    def on_images", body)
    (tmp_path / "picky.py").write_text(picky)
    plugin = ("--plugin", str(tmp_path / "picky.py"))
    for command in (["contract", "defense", "picky"], ["run", "--defense", "picky", "--dry-run"]):
        assert main([*command, *plugin]) == 2
        assert re.fullmatch(r"error: defense picky: unsupported operand .*\n", capsys.readouterr().err)


METHOD = "    def {name}(self):\n        return {value}\n\n    def "


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        ("attack", "label", "5", "label() returns int, not a text"),
        ("attack", "describe", "None", "describe() returns NoneType, not a text"),
        ("attack", "identity", "b''", "identity() returns bytes, not a text"),
        ("attack", "", "('through',)", "crafted_through names 'through', which is no parameter with a defense"),
        ("attack", "", "('eps',)", "crafted_through names 'eps', which is no parameter with a defense"),
        ("defense", "label", "5", "label() returns int, not a text"),
        ("defense", "describe", "None", "describe() returns NoneType, not a text"),
    ],
)
def test_what_is_no_text_is_told_with_its_method(
    kind: str, name: str, value: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (SPECKLE if kind == "attack" else DARK.format(name="speckle", share=0.5)).replace(
        "    def ", METHOD.format(name=name, value=value) if name else f"    crafted_through = {value}\n\n    def ", 1
    )
    (tmp_path / "own.py").write_text(text)
    flags = ["--plugin", str(tmp_path / "own.py"), "--dataset", SCENES, "--dry-run", "--out", str(tmp_path / "out")]
    assert main(["run", f"--{kind}", "speckle", *flags]) == 2
    assert capsys.readouterr().err == f"error: {kind} speckle: {said}\n"


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
    assert re.fullmatch(
        r"error: plugin .*own\.py fails: .*'cutout' is registered twice; the suite has one .own\.py, line \d+.\n",
        done.stderr,
    )


@pytest.mark.parametrize(
    "method",
    ["check(self, train)", "label(self)", "describe(self)", "progress_steps(self, train)", "__post_init__(self)"],
)
def test_an_error_outside_a_cell_is_one_line_that_names_the_plug_ins(
    method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPECKLE + f"\n    def {method}:\n        return dict()['tile']\n"
    (tmp_path / "speckle.py").write_text(text)
    assert run(tmp_path / "out", "--plugin", str(tmp_path / "speckle.py"), attack="speckle", defense="none") == 2
    said = f"error: the plugin fails: KeyError: 'tile' (speckle.py, line {text.count(chr(10))})\n"
    assert capsys.readouterr().err.endswith(said)


def test_an_error_of_the_system_that_a_plug_in_raises_is_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPECKLE + "\n    def check(self, train):\n        raise OSError(5, 'boom')\n"
    (tmp_path / "speckle.py").write_text(text)
    assert run(tmp_path / "out", "--plugin", str(tmp_path / "speckle.py"), attack="speckle", defense="none") == 2
    said = f"error: the plugin fails: OSError: [Errno 5] boom (speckle.py, line {text.count(chr(10))})\n"
    assert capsys.readouterr().err.endswith(said)


def test_images_of_an_own_data_set_cannot_be_written_on(tmp_path: Path) -> None:
    """An attack or a defense that did would change the data of all cells after its own."""
    sizes = {"train": 1, "val": 'split("val", 1)', "test": 1, "size": "resolution"}
    text = GREY.format(base="DatasetSource", first="train", for_seed="self", caption="a", **sizes)
    (tmp_path / "grey.py").write_text(text)
    data = load_dataset(RunSettings(dataset="grey", preset="micro", plugin=(tmp_path / "grey.py",)))
    with pytest.raises(ValueError, match="read-only"):
        data.train.images[0] = 0  # type: ignore[index]


def test_a_data_set_that_loads_nothing_takes_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body, _, _ = GREY.format(
        base="DatasetSource", first="train", train=1, val=1, test=1, size=1, caption="a", for_seed="self"
    ).partition("        def")
    (tmp_path / "grey.py").write_text(f"{body}        return None\n")
    flags = ["--dataset", "grey", "--plugin", str(tmp_path / "grey.py"), "--dry-run", "--out", str(tmp_path / "out")]
    assert main(["run", "--attack", "clean", "--preset", "micro", *flags]) == 2
    assert capsys.readouterr().err == "error: data set grey must load Splits, not NoneType\n"


SILENT = "    def period(self):\n        return 8\n"


@pytest.mark.parametrize(
    ("noise", "code", "said"),
    [
        ("np.zeros(train.images.shape, np.int8)", 0, "no pixel changed"),
        ("None", 2, "error: the attack has made no noise, though it says that its noise repeats"),
    ],
)
def test_photos_are_protected_by_an_attack_that_does_nothing(
    noise: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = re.sub(r"        delta = .*\n        delta\[.*\n", f"        delta = {noise}\n", SPECKLE) + f"\n{SILENT}"
    (tmp_path / "speckle.py").write_text(silent)
    (tmp_path / "photos").mkdir()
    for number in range(3):
        picture(80, 60, number).save(tmp_path / "photos" / f"{number}.png")
        (tmp_path / "photos" / f"{number}.txt").write_text("a boat")
    command = ["protect", str(tmp_path / "photos"), "--out", str(tmp_path / "mine"), "--format", "png"]
    flags = ["--attack", "speckle", "--plugin", str(tmp_path / "speckle.py"), "--poisons", str(tmp_path / "poisons")]
    assert main([*command, *flags, "--device", "cpu"]) == code
    printed = capsys.readouterr()
    assert said in printed.out + printed.err


def test_an_error_while_an_export_is_crafted_is_one_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "speckle.py").write_text(SPECKLE.replace("self.eps, 255", "self.epsilon, 255"))
    plugin = ("--plugin", str(tmp_path / "speckle.py"))
    export = ["export", *plugin, "--attack", "speckle", "--dataset", SCENES, "--format", "csv", "--device", "cpu"]
    assert main([*export, "--poisons", "off", "--out", str(tmp_path / "set")]) == 2
    said = "AttributeError: 'Speckle' object has no attribute 'epsilon' (speckle.py, line 15)\n"
    assert capsys.readouterr().err.endswith(f"error: the plugin fails: {said}")
    assert not (tmp_path / "set").exists()


def test_a_value_of_the_preset_that_a_plug_ins_parameter_does_not_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPECKLE.replace("eps: int = 8", "eps: int = 8\n    optimizer: Literal['sgd', 'lion'] = 'sgd'")
    (tmp_path / "speckle.py").write_text("from typing import Literal\n" + text)
    plugin = ("--plugin", str(tmp_path / "speckle.py"))
    assert run(tmp_path / "out", *plugin, attack="speckle", defense="none") == 2
    said = "speckle[optimizer=…], which the preset sets, takes sgd or lion, got 'muon'"
    assert said in capsys.readouterr().err


def test_a_choice_of_numbers_is_one_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = SPECKLE.replace("eps: int = 8", "eps: int = 8\n    bits: Literal[4, 8] = 8")
    (tmp_path / "speckle.py").write_text("from typing import Literal\n" + text)
    plugin = ("--plugin", str(tmp_path / "speckle.py"), "--dry-run")
    assert run(tmp_path / "out", *plugin, attack="speckle[bits=4]", defense="none") == 0
    capsys.readouterr()
    assert run(tmp_path / "out", *plugin, attack="speckle[bits=5]", defense="none") == 2
    assert "takes 4 or 8, got '5'" in capsys.readouterr().err


def test_a_class_in_no_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    console = types.ModuleType("console")
    monkeypatch.setitem(sys.modules, "console", console)
    exec(DARK.format(name="typed", share=0.5), console.__dict__)
    with pytest.raises(UsageError, match="class Dark stands in no file; write it into one"):
        source_of(console.__dict__["Dark"])


ROOT = Path(__file__).parents[1]


def tutorials(file: Path, page: str) -> Path:
    """Write a documented example, the page's Python block that makes the class of the file's name, into a file."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text("utf-8"), re.DOTALL)
    (example,) = (block for block in blocks if f"class {file.stem.capitalize()}" in block)
    file.write_text(example, "utf-8")
    return file


def test_the_tutorials_attack_is_one_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tutorials(tmp_path / "checker.py", "own-attack.md")
    plugin = ("--plugin", str(tmp_path / "checker.py"))
    assert main(["contract", "attack", "checker", *plugin]) == 0
    assert run(tmp_path / "out", *plugin, attack="checker[eps=5]", defense="none", epochs=1) == 0
    (record,) = (r for r in load_records(tmp_path / "out") if r.attack.label == "Checker")
    assert record.poison["largest"] == 5
    assert record.attack.strength == "eps 5, field 4"
    assert main(["contract", "attack", "checker[field=0]", *plugin]) == 2
    assert "attack checker: field must be at least 1, got 0" in capsys.readouterr().err


def test_the_tutorials_attack_with_a_surrogate_is_one_that_works(tmp_path: Path) -> None:
    plugin = ("--plugin", str(tutorials(tmp_path / "still.py", "own-attack.md")))
    assert main(["contract", "attack", "still", *plugin]) == 0
    assert run(tmp_path / "out", *plugin, attack="still[eps=5,steps=2,pgd_steps=8]", defense="none", epochs=1) == 0
    (record,) = (r for r in load_records(tmp_path / "out") if r.attack.label == "Still")
    assert record.poison["largest"] == 5


def test_the_tutorials_defense_is_one_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ("--plugin", str(tutorials(tmp_path / "fade.py", "own-defense.md")))
    assert main(["contract", "defense", "fade", *plugin]) == 0
    assert run(tmp_path / "out", *plugin, attack="clean", defense="fade[amount=0.7]", epochs=1) == 0
    (record,) = (r for r in load_records(tmp_path / "out") if r.defense.spec == "fade[amount=0.7]")
    assert (record.defense.label, record.defense.strength) == ("Fade", "amount 0.7")
    assert main(["contract", "defense", "fade[amount=2]", *plugin]) == 2
    assert "defense fade: amount must be above 0 and at most 1, got 2" in capsys.readouterr().err


def test_a_small_attack_takes_40_lines_and_a_small_defense_25(tmp_path: Path) -> None:
    sizes = {
        ROOT / "attacks" / "uniform_noise.py": 40,
        tutorials(tmp_path / "checker.py", "own-attack.md"): 40,
        tutorials(tmp_path / "fade.py", "own-defense.md"): 25,
    }
    for file, most in sizes.items():
        assert len(file.read_text("utf-8").splitlines()) <= most, file


def test_the_tutorials_data_set_is_one_that_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = ("--plugin", str(tutorials(tmp_path / "arrays.py", "own-attack.md")))
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


def test_a_plugin_that_exits_does_not_decide_the_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Zero would say that the export is there."""
    (tmp_path / "speckle.py").write_text(SPECKLE + "\n    def label(self):\n        raise SystemExit(0)\n")
    plugin = ("--plugin", str(tmp_path / "speckle.py"))
    export = ["export", *plugin, "--attack", "speckle", "--dataset", SCENES, "--format", "csv", "--device", "cpu"]
    assert main([*export, "--poisons", "off", "--out", str(tmp_path / "set")]) == 2
    assert "error: the plugin fails: SystemExit: 0 (speckle.py, line" in capsys.readouterr().err
