"""The list of faults: each can still be put into the code, exactly once."""

import pytest

from tests.tools.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.fault)
def test_its_code_is_there_once(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text("utf-8").count(mutation.code) == 1
    assert mutation.code != mutation.replacement
    assert all((ROOT / name.partition("::")[0]).exists() for name in mutation.tests.split())
