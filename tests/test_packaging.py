"""The wheel: what it holds, which version it names, and that a type checker outside sees its types.

Slow, for building the wheel fetches the build backend.
"""

import re
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = ("benchmark", "attacks", "defenses", "victims")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", str(ROOT), "--no-deps", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run(pip, check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but the wheel's files in its site-packages."""
    folder = tmp_path_factory.mktemp("outside") / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site_packages,) = folder.glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages)
    return folder


def test_the_wheel_holds_markers_configs_and_the_papers_numbers(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    assert {f"victims/configs/{name}.json" for name in ("micro", "tiny", "tiny-vit", "tiny-wide")} <= names
    assert {"results/paper/table1.json", "results/paper/table2.json"} <= names
    assert {"benchmark/report/page.html", "benchmark/report/page.js"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "results/tiny"))]


def test_the_package_knows_the_version_of_its_wheel(wheel: Path, environment: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        expected = message_from_string(archive.read(metadata).decode())["Version"]
    script = "import benchmark; print(benchmark.__version__)"
    python = [str(environment / "bin" / "python"), "-c", script]
    printed = subprocess.run(python, check=True, capture_output=True, text=True, cwd=environment).stdout
    assert printed.strip() == expected


def mypy(environment: Path, script: Path) -> "subprocess.CompletedProcess[str]":
    """Check a script against the installed wheel.

    Dependencies are not installed there: what comes from them may be Any, what is the suite's own may not.
    """
    pytest.importorskip("mypy")
    (environment / "mypy.ini").write_text("[mypy]\nignore_missing_imports = True\n")
    command = [sys.executable, "-m", "mypy", "--python-executable", str(environment / "bin" / "python"), str(script)]
    return subprocess.run(command, capture_output=True, text=True, cwd=environment)


def test_mypy_sees_types_from_outside(environment: Path) -> None:
    script = environment / "outside.py"
    script.write_text(
        "from attacks import Attack\n"
        "from benchmark.data import CaptionDataset\n"
        "from defenses import Defense\n"
        "from victims.recipe import Recipe\n"
        "def types(attack: Attack, dataset: CaptionDataset, defense: Defense, recipe: Recipe) -> None:\n"
        "    reveal_type(attack)\n"
        "    reveal_type(dataset.fingerprint)\n"
        "    reveal_type(defense)\n"
        "    reveal_type(recipe.epochs)\n"
    )
    printed = mypy(environment, script)
    assert printed.returncode == 0, printed.stdout + printed.stderr
    revealed = [line.split('"')[1] for line in printed.stdout.splitlines() if "Revealed type" in line]
    assert [name.rpartition(".")[2] for name in revealed] == ["Attack", "str", "Defense", "int"]


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
def test_mypy_accepts_the_documented_api(environment: Path, page: str) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = environment / "documented.py"
    script.write_text("\n".join(blocks))
    printed = mypy(environment, script)
    assert blocks
    assert printed.returncode == 0, printed.stdout + printed.stderr
