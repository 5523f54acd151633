"""Records of cells before they run: all that settings, data, code and machine say of them."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import torch

from benchmark.data import Splits
from benchmark.grid.cells import Cell
from benchmark.grid.provenance import device_name, git_commit, versions
from benchmark.grid.records import Record, ResolvedSpec

T = TypeVar("T")


class Draft:
    """Drafts the records of a plan. What cells have in common is made, checked and kept once, however many they are.

    Args:
        device: where the cells run.
        provenance: what every record says of the run.
    """

    def __init__(self, device: torch.device, provenance: Mapping[str, Any]) -> None:
        self._run = {
            **provenance,
            "commit": git_commit(),
            "device": device_name(device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }
        self._made: dict[Hashable, tuple[Any, ...]] = {}

    def record(self, cell: Cell, data: Splits, key: str) -> Record:
        """The record of a cell as far as it is known before it runs.

        Args:
            cell: of the plan.
            data: its clean data.
            key: its address.

        Raises:
            UsageError: it could not be saved, as with a plug-in's label of two lines.
        """
        known = len(self._made)
        record = Record(
            key=key,
            seed=cell.seed,
            dataset=self._once("dataset", (cell.dataset, data), lambda: _described(cell, data)),
            attack=self._once("attack", (cell.attack,), lambda: cell.attack.choice),
            defense=self._once("defense", (cell.defense,), lambda: cell.defense.choice),
            victim=self._once("victim", (cell.victim,), lambda: ResolvedSpec(str(cell.victim), cell.victim.name)),
            surrogate=self._once(
                "surrogate", (cell.surrogate,), lambda: ResolvedSpec(str(cell.surrogate), cell.surrogate.name)
            ),
            recipe=self._once("recipe", (cell.recipe,), lambda: asdict(cell.recipe)),
            provenance={
                "command": cell.command,
                **self._run,
                "code": self._once("code", (cell.dataset, cell.attack, cell.defense), cell.code),
                "models": "plain" if cell.plain_models else "fast",
                "fingerprints": self._once(
                    "fingerprints",
                    (data,),
                    lambda: {split.split: split.fingerprint for split in (data.val, data.test)},
                ),
            },
        )
        if len(self._made) > known:
            # Check now that the finished record can be saved. A record is only ever refused because of a single part,
            # so it is enough to check the first record that has a new part.
            record.failed("", "", "").content()
        return record

    def _once(self, what: str, of: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Make a value from some objects, once for the same objects.

        Values are found by the ids of the objects. The objects are kept too, so that no other object gets such an id.
        """
        name = what, *map(id, of)
        if name not in self._made:
            self._made[name] = make(), of
        return self._made[name][0]


def _described(cell: Cell, data: Splits) -> ResolvedSpec:
    dataset = cell.dataset.choice
    facts = {
        "resolution": data.train.resolution,
        "train_images": len(data.train),
        "val_images": len(data.val),
        "test_images": len(data.test),
        "train_captions": len(data.train.pairs),
        "test_captions": len(data.test.pairs),
        "fingerprint": data.train.fingerprint,
    }
    return ResolvedSpec(dataset.spec, dataset.label, {**dataset.params, **facts})
