"""What tables take from records: how defenses are called, and which records count."""

from dataclasses import replace

import pytest

from benchmark.core.registry import label_of
from benchmark.core.spec import Spec
from benchmark.tables.selection import as_shown
from defenses import DEFENSES
from tests.tables.factory import record

EVERY = [entry.name for entry in DEFENSES.entries()]


@pytest.mark.parametrize("name", EVERY)
def test_earlier_records_name_a_defense_as_new_ones_do(name: str) -> None:
    now = DEFENSES.build(Spec(name)).label()
    earlier = record("mem3", name)
    earlier = replace(earlier, defense=replace(earlier.defense, label=label_of(name)))
    (shown,) = as_shown([earlier])
    assert shown.defense.label == now
    assert shown.defense.title == now  # the same letters as its registered name's
    pair = replace(earlier.defense, label=f"Rare prefix + {label_of(name)}")
    assert as_shown([replace(earlier, defense=pair)])[0].defense.label == f"Rare prefix + {now}"


def test_a_failed_cell_that_is_done_by_now_is_left_out() -> None:
    done, failed = record("mem3", "jpeg"), record("mem3", "jpeg", failed="no luck")
    assert [one.status for one in as_shown([failed, done])] == ["done"]
    assert [one.status for one in as_shown([failed, replace(done, seed=2)])] == ["failed", "done"]
