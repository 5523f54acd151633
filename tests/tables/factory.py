"""Records made by hand, for tables with known numbers, and what such a table says in a cell."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.core.digests import json_sha256
from benchmark.grid.records import EpochScores, Record, ResolvedSpec
from benchmark.metrics import Retrieval, RetrievalScores
from benchmark.tables.entries import About, Entry, Kind
from benchmark.tables.table import Table

LABELS = {"clean": "Clean", "em": "EM"} | {f"mem{k}": f"MEM-{k}" for k in (1, 3, 5, 7)}
LABELS |= {"delta-only": "Delta only", "trigger-only": "Trigger only", "uniform-noise": "Uniform noise"}
LABELS |= {"random-trigger": "Random trigger", "same-words": "Same words", "trigger-uniform": "Trigger + uniform"}
LABELS |= {"em-aug": "EM through strong-augment", "through": "EM through strong-augment"}
LABELS |= {"mem-official": "MEM-3", "em-official": "EM"}
LENGTHS = {"em": 0, "em-official": 0, "delta-only": 3, "trigger-only": 3, "random-trigger": 3, "mem-official": 3}
LENGTHS |= {"trigger-uniform": 3, "same-words": 3}
LENGTHS |= {f"mem{k}": k for k in (1, 3, 5, 7)}
SCENES: dict[str, Any] = {"seed": 0, "resolution": 64, "train_images": 4000, "val_images": 500, "test_images": 1000}
SCENES |= {"train_captions": 20_000, "test_captions": 5000, "fingerprint": "0" * 40}
RECIPE: dict[str, Any] = {
    "epochs": 14,
    "batch_size": 128,
    "evaluate_every": 1,
    "lr": 5e-4,
    "rows": "images",
    "precision": "fp32",
}
POISON: dict[str, Any] = {"eps": 8, "largest": 8, "per": "image", "psnr": 33.0, "loss_per_round": []}
POISON |= {"trigger_words": {}, "distinct_trigger_words": 0}


def retrieval(recalls: tuple[float, float], ranks: tuple[float, float]) -> Retrieval:
    """Scores, Image→Text first."""
    both = [
        RetrievalScores(recall / 5, recall / 2, recall, rank, rank) for recall, rank in zip(recalls, ranks, strict=True)
    ]
    return Retrieval(*both)


def scores(
    epoch: int, recalls: tuple[float, float], ranks: tuple[float, float], val: float, protected: float | None = None
) -> EpochScores:
    """An epoch's scores on test, and its recall on val and, if there is one, on a sample of the protected data."""
    sample = None if protected is None else retrieval((protected, protected), (50, 50))
    return EpochScores(epoch, retrieval((val, val), (50, 50)), retrieval(recalls, ranks), sample)


def signed(content: Mapping[str, Any]) -> str:
    """The file of a record with that content, whatever was done to it, and a hash that fits."""
    return json.dumps({**content, "sha256": json_sha256(content)}, separators=(",", ":"))


def record(
    attack: str = "mem3",
    defense: str = "none",
    recalls: tuple[float, float] = (10.0, 8.0),
    ranks: tuple[float, float] = (150.0, 200.0),
    *,
    seed: int = 1,
    best: tuple[float, float] | None = None,
    best_ranks: tuple[float, float] = (90.0, 95.0),
    protected: tuple[float, float] | None = None,
    params: Mapping[str, Any] | None = None,
    defense_params: Mapping[str, Any] | None = None,
    strength: str = "",
    changes: Mapping[str, float] | None = None,
    failed: str = "",
    dataset: str = "scenes",
    victim: str = "tiny",
    facts: Mapping[str, Any] = SCENES,
    surrogate: str = "tiny",
    epochs: int = 14,
    key: str = "",
    seconds: Mapping[str, float] | None = None,
    loss: Sequence[float] = (),
    recipe: Mapping[str, Any] | None = None,
    poison: Mapping[str, Any] | None = None,
    memory: Mapping[str, float] | None = None,
) -> Record:
    """A record; ``best`` are the test recalls of an earlier epoch that val prefers.

    ``protected`` are the recalls of that epoch and of the last on the sample of the protected training data.
    """
    name = attack.partition("[")[0]
    settings = {} if name == "clean" else {"k": LENGTHS.get(name), "rounds": 6, **(params or {})}
    early, late = protected or (None, None)
    found = [] if best is None else [scores(3, best, best_ranks, val=60, protected=early)]
    found.append(scores(epochs, recalls, ranks, val=50, protected=late))
    return Record(
        key=key or f"{attack}{defense}{seed}{victim}{dataset}{surrogate}",
        seed=seed,
        dataset=ResolvedSpec(dataset, dataset.partition("[")[0], facts),
        attack=ResolvedSpec(attack, LABELS[name], settings),
        defense=ResolvedSpec(
            defense,
            " + ".join(part.partition("[")[0].replace("-", " ").capitalize() for part in defense.split("+")),
            {defense.partition("[")[0]: dict(defense_params or {})},
            strength,
        ),
        victim=ResolvedSpec(victim, victim),
        surrogate=ResolvedSpec(surrogate, surrogate),
        recipe={**RECIPE, "epochs": epochs, **(recipe or {})},
        status="failed" if failed else "done",
        epochs=() if failed else tuple(found),
        changes={} if failed else dict(changes or {"words_per_caption": 0.0, "pixel": 0.0}),
        loss=() if failed else tuple(loss),
        poison={} if name == "clean" or failed else {**POISON, **(poison or {})},
        seconds={} if failed else dict(seconds or {"craft": 300.0, "train": 170.0, "evaluate": 3.0}),
        peak_memory_mb=dict(memory or {}),
        provenance={"device": "cpu (x86_64, 2 threads)"},
        error={"type": "RuntimeError", "message": failed} if failed else {},
    )


def cell(table: Table, row: str, column: str) -> "pd.Series[float]":
    """The one cell of a table in that row and column."""
    found = table.cells[(table.cells["row"] == row) & (table.cells["column"] == column)]
    assert len(found) == 1, f"{len(found)} cells in {row}, {column}"
    return found.iloc[0]


def value(table: Table, row: str, column: str) -> float:
    """The mean in that cell."""
    return float(cell(table, row, column)["mean"])


def entry(name: str, recall: Mapping[str, Sequence[float]], kind: Kind = "attack", **more: Any) -> Entry:
    """An entry whose clean victims have a recall of 80 %; its recalls are of seeds 1, 2, …"""
    about = About(name, kind, name, name.title(), "A. Author", "https://example.org/a_b", "MIT")
    return Entry(
        about=about,
        rules=1,
        accepted="2026-11-27",
        plugin="none",
        strength="",
        recall={other: {str(seed): float(one) for seed, one in enumerate(own, 1)} for other, own in recall.items()},
        clean={str(seed): 80.0 for seed in range(1, 1 + max(map(len, recall.values())))},
        test_images=1000,
        per_seed=True,
        **{"poison": {"eps": 8, "psnr": 33.0}, "seconds": {"craft": 100.0, "train": 20.0}, **more},
    )
