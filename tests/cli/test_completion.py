"""Completion as the shells do it, with the lines of docs/commands.md that set it up."""

import argparse
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.cli.completion import complete
from benchmark.cli.main import build_parser

ROOT = Path(__file__).parents[2]
REGISTER = "register-python-argcomplete"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Where ``unlearnable-bench`` is this checkout, as the installed script calls it."""
    script = tmp_path / "bin" / "unlearnable-bench"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path[:0] = [{str(ROOT)!r}]\n"
        "from benchmark.__main__ import main\nsys.exit(main())\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    path = os.pathsep.join([str(script.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "HOME": str(tmp_path), "COLUMNS": "200"}


def in_bash(line: str, environment: dict[str, str]) -> list[str]:
    """What bash offers after a line."""
    words = line.split(" ")
    code = f"""
eval "$({REGISTER} unlearnable-bench)"
function_=$(complete -p unlearnable-bench | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'; COMP_POINT={len(line)}; COMP_TYPE=9
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
$function_ unlearnable-bench
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", code], env=environment, capture_output=True, text=True, check=True)
    return [word.strip() for word in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("unlearnable-bench re", {"report", "reproduce"}),
        ("unlearnable-bench run --evaluate-", {"--evaluate-every"}),
        ("unlearnable-bench run --preset ", {"tiny", "micro", "paper"}),
        ("unlearnable-bench run --rerun ", {"missing", "failed", "all"}),
        ("unlearnable-bench table --format m", {"markdown"}),
        ("unlearnable-bench list ta", {"tables"}),
        ("unlearnable-bench run --defense cutout+mi", {"cutout+mixup"}),
    ],
)
def test_bash(line: str, offered: set[str], environment: dict[str, str]) -> None:
    assert set(in_bash(line, environment)) == offered


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run --attack clean,u", {"clean,uniform-noise"}),
        ("run --attack mem", {"mem", "mem1", "mem3", "mem5", "mem7", "mem-official", "mem-wordwise"}),
        ("run --surrogate tiny-w", {"tiny-wide"}),
        ("contract defense prefix", {"prefix-drop"}),
        ("run --through crop", {"crop-flip"}),
        ("run --attack mem[k=3,m", set()),
    ],
)
def test_names_of_the_lists(line: str, offered: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: a shell would start a new one, which imports all classes, for each completion."""
    asked: list[argparse.ArgumentParser] = []
    monkeypatch.setattr("argcomplete.autocomplete", asked.append)
    command, flag, prefix = line.split()
    complete(build_parser(line.split()))
    (commands,) = (a for a in asked[0]._actions if isinstance(a, argparse._SubParsersAction))
    actions = commands.choices[command]._actions
    (action,) = (a for a in actions if flag in a.option_strings or (a.dest == "spec" and flag == "defense"))
    found = vars(action)["completer"](prefix=prefix, parsed_args=argparse.Namespace(kind=flag))
    assert {name for name in found if name.startswith(prefix)} == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish(environment: dict[str, str]) -> None:
    code = f"{REGISTER} --shell fish unlearnable-bench | source; complete --do-complete 'unlearnable-bench re'"
    done = subprocess.run(["fish", "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"report", "reproduce"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh(environment: dict[str, str]) -> None:
    # zsh completes in its line editor only, which zpty gives a terminal; it types the rest of the word.
    code = f"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PS1=; autoload -U compinit; compinit -u; eval \\"\\$({REGISTER} unlearnable-bench)\\"; echo SET''UP"
until [[ $answer == *SETUP* ]]; do zpty -r shell answer; done
zpty -w -n shell $'unlearnable-bench repr\\t'
for i in {{1..600}}; do
  zpty -r -t shell answer && print -r -- $answer && [[ $answer == *oduce* ]] && break
  sleep 0.1
done
"""
    done = subprocess.run(["zsh", "-f", "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "oduce" in done.stdout
