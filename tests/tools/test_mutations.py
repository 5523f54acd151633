"""The list of faults: each can still be put into the code, exactly once."""

import re

import pytest

from tests.tools.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.fault)
def test_its_code_is_there_once(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text("utf-8").count(mutation.code) == 1
    assert mutation.code != mutation.replacement
    assert all((ROOT / name.partition("::")[0]).exists() for name in mutation.tests.split())


PAGE = (ROOT / "tests" / "MUTATIONS.md").read_text("utf-8")
# Fault, file, and the test that turned red: its file and function.
ROWS = re.findall(r"^\| (.+?) \| (\S+) \| `(tests/[^:`]+)::(\w+)", PAGE, re.MULTILINE)


def test_the_page_names_faults_of_the_list_and_tests_that_are_there() -> None:
    known = {(mutation.fault, mutation.file) for mutation in MUTATIONS}
    assert {(fault, file) for fault, file, _, _ in ROWS} == known
    gone = [(file, name) for _, _, file, name in ROWS if f"def {name}(" not in (ROOT / file).read_text("utf-8")]
    assert not gone
