"""What users read of an error that ended a cell."""

import traceback
from collections.abc import Callable
from pathlib import Path

import torch

from benchmark.core.errors import Failure, UsageError


def failure(raise_it: Callable[[], object]) -> Failure:
    """What is kept of the error that a call raises."""
    try:
        raise_it()
    except Exception as error:
        return Failure(type(error).__name__, str(error), traceback.format_exc())
    raise AssertionError("nothing was raised")


def plugin(tmp_path: Path, line: str) -> Callable[[], object]:
    """A function whose third line is given, in a file of its own."""
    file = tmp_path / "my_noise.py"
    file.write_text(f"import torch\ndef perturb():\n    {line}\n")
    names: dict[str, Callable[[], object]] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)
    return names["perturb"]


def test_an_unforeseen_error_is_told_with_its_kind_and_the_line_of_the_plug_in(tmp_path: Path) -> None:
    assert failure(plugin(tmp_path, "{}['tile']")).in_words == "KeyError: 'tile' (my_noise.py, line 3)"
    assert failure(plugin(tmp_path, "assert False")).in_words == "AssertionError (my_noise.py, line 3)"


def test_the_line_is_not_one_of_an_installed_package(tmp_path: Path) -> None:
    told = failure(plugin(tmp_path, "torch.nn.Linear(2, 3)(torch.zeros(5))"))
    assert Path(torch.__file__).parts[-2] in told.where
    assert "site-packages" in told.where
    assert told.in_words.endswith("(my_noise.py, line 3)")


def test_the_line_is_not_one_of_generated_code(tmp_path: Path) -> None:
    told = failure(plugin(tmp_path, "exec('1 / 0')"))
    assert 'File "<string>", line 1' in told.where
    assert told.in_words == "ZeroDivisionError: division by zero (my_noise.py, line 3)"


def test_an_error_that_a_check_raised_says_all_by_itself(tmp_path: Path) -> None:
    def refuse() -> None:
        raise UsageError("no folder x\nhere")

    assert failure(refuse).in_words == "no folder x here"


def test_without_a_traceback_there_is_the_message_or_the_kind() -> None:
    assert Failure("WorkerDied", "its worker was killed", "").in_words == "its worker was killed"
    assert Failure("SystemExit", "", "").in_words == "SystemExit"
