"""Folders of the user's own that are called like the suite's packages: one line that says what is in the way."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def script(tmp_path: Path) -> str:
    """What pip installs for ``unlearnable-bench``."""
    path = tmp_path / "bin" / "unlearnable-bench"
    path.parent.mkdir()
    path.write_text("import sys\nfrom benchmark.__main__ import main\nsys.exit(main())\n")
    return str(path)


def call(folder: Path, *command: str, path: Sequence[Path] = (ROOT,)) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, the suite after it on the path, where an installed package is."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("file", ["attacks/__init__.py", "defenses/__init__.py", "victims.py"])
def test_python_m_names_the_file_and_the_script(tmp_path: Path, script: str, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    done = call(tmp_path, "-m", "benchmark", "list", "presets")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    name = file.partition("/")[0].removesuffix(".py")
    assert line.startswith(f"error: {path} hides the package '{name}' of this suite; ")
    assert "unlearnable-bench" in line
    # The script does not look into the current folder.
    done = call(tmp_path, script, "list", "presets")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_without_code_hides_nothing(tmp_path: Path) -> None:
    for name in ("attacks", "defenses", "results"):
        (tmp_path / name).mkdir()
    done = call(tmp_path, "-m", "benchmark", "list", "presets")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tiny  ")


def test_the_script_points_to_the_path(tmp_path: Path, script: str) -> None:
    (tmp_path / "attacks.py").write_text("")
    done = call(tmp_path, script, "list", "presets", path=(tmp_path, ROOT))
    assert done.returncode == 2
    assert "take its folder out of PYTHONPATH" in done.stderr


def test_windows_takes_one_line(tmp_path: Path) -> None:
    code = "import sys; from benchmark.__main__ import main; sys.platform = 'win32'; sys.exit(main())"
    done = call(tmp_path, "-c", code)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: Unlearnable Bench runs on Linux; on Windows, use it in WSL\n"
