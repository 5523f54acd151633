"""What tables take from records: how defenses are called, and which records count."""

from dataclasses import replace
from typing import Any

import pytest

from benchmark.core.errors import UsageError
from benchmark.core.registry import label_of
from benchmark.core.spec import Spec
from benchmark.grid.records import Record
from benchmark.tables.published import in_order
from benchmark.tables.selection import as_shown, blocks
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


def test_variants_stand_in_the_order_of_their_numbers() -> None:
    attacks = ["mem3", "mem3[eps=2]", "mem3[eps=16]", "mem3[place=end]"]
    records = [record(spec, params={"spec": spec}) for spec in sorted(attacks)]
    assert [one.spec for one in blocks(records)[0].attacks] == attacks
    defenses = ["none", "random-noise[std=2.5]", "random-noise[std=10]", "jpeg[quality=9]", "jpeg[quality=75]"]
    defenses += ["jpeg[quality=100]", "jpeg[quality=9]+grey", "jpeg[quality=10]+grey"]
    assert in_order(sorted(defenses)) == defenses


def at_eps(spec: str, eps: int, recall: float, **more: Any) -> Record:
    return record(spec, recalls=(recall, recall), params={"eps": eps}, **more)


def test_one_cell_under_two_spellings_is_shown_once_by_the_shorter() -> None:
    usual, other = at_eps("mem3", 8, 5, key="k" * 40), at_eps("mem3[eps=8]", 8, 5, key="k" * 40)
    for both in ([usual, other], [other, usual]):
        assert [one.attack.spec for one in as_shown(both)] == ["mem3"]
    second = at_eps("mem3[eps=8]", 8, 7, seed=2)  # was run under the longer one alone
    assert [(one.attack.spec, one.seed) for one in as_shown([second, usual])] == [("mem3", 2), ("mem3", 1)]
    half = record("mem3", "clean-fraction", defense_params={"share": 0.125}, key="h" * 40)
    spelled = replace(half, defense=replace(half.defense, spec="clean-fraction[share=0.125]"))
    assert [one.defense.spec for one in as_shown([spelled, half])] == ["clean-fraction"]


def test_spellings_of_different_cells_stay_apart() -> None:
    weaker = at_eps("mem3[eps=4]", 4, 20)
    assert [one.attack.spec for one in as_shown([at_eps("mem3", 8, 5), weaker])] == ["mem3", "mem3[eps=4]"]
    bare = record("mem3[eps=4]")  # as a record that holds fewer parameters than its spec names
    assert [one.attack.spec for one in as_shown([record("mem3"), bare])] == ["mem3", "mem3[eps=4]"]
    pair, turned = record("mem3", "jpeg+cutout"), record("mem3", "cutout+jpeg")
    params: dict[str, dict[str, Any]] = {"jpeg": {}, "cutout": {}}
    pair, turned = (replace(one, defense=replace(one.defense, params=params)) for one in (pair, turned))
    assert [one.defense.spec for one in as_shown([pair, turned])] == ["jpeg+cutout", "cutout+jpeg"]


def test_two_runs_of_one_cell_that_differ_are_refused_under_two_spellings_as_well() -> None:
    with pytest.raises(UsageError, match="two records of one cell"):
        blocks([at_eps("mem3", 8, 5, key="a" * 40), at_eps("mem3[eps=8]", 8, 6, key="b" * 40)])
