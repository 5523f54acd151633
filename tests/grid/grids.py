"""A small grid that tests run, whole or in pieces."""

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest

import benchmark.grid.runner
from benchmark.cli.main import main
from benchmark.data import CaptionDataset

# A victim of 32 px that trains in no time.
open_clip.add_model_config(Path(__file__).parent / "configs")
SCENES = "scenes[train=40,val=8,test=12,objects=30]"
ATTACK = (
    "mem[k=2,rounds=3,surrogate_steps=2,pgd_steps=2,step_size=1,restart_every=none,"
    "hotflip_rounds=2,candidates=2,vocabulary=20,batch_size=16]"
)


def run(out: Path, *extra: str, attack: str = ATTACK, defense: str = "cutout+random-insertion", epochs: int = 3) -> int:
    """Run the grid into a folder; its poisons lie in it, too."""
    settings = {"--attack": attack, "--defense": defense, "--dataset": SCENES, "--out": str(out)}
    settings |= {"--epochs": str(epochs), "--batch-size": "16", "--device": "cpu", "--precision": "fp32"}
    settings |= {"--poisons": str(out / "poisons"), "--victim": "mini", "--surrogate": "mini"}
    return main(["run", *(word for pair in settings.items() if pair[0] not in extra for word in pair), *extra])


def data_seen(monkeypatch: pytest.MonkeyPatch) -> tuple[list[CaptionDataset], list[CaptionDataset]]:
    """The data sets that victims train on and those that they are evaluated on from now on, as they come."""
    trained: list[CaptionDataset] = []
    measured: list[CaptionDataset] = []
    train, evaluate = benchmark.grid.runner.train, benchmark.grid.runner.evaluate

    def train_seen(model: Any, data: CaptionDataset, *rest: Any, **settings: Any) -> Any:
        trained.append(data)
        return train(model, data, *rest, **settings)

    def evaluate_seen(model: Any, data: CaptionDataset, seed: int) -> Any:
        measured.append(data)
        return evaluate(model, data, seed)

    monkeypatch.setattr(benchmark.grid.runner, "train", train_seen)
    monkeypatch.setattr(benchmark.grid.runner, "evaluate", evaluate_seen)
    return trained, measured


def results(out: Path) -> dict[str, Any]:
    """All that a run leaves behind, timing and memory aside: records by name, poisons by their bytes' content."""
    found: dict[str, Any] = {}
    for path in sorted(out.glob("[!.]*.json")):
        data = json.loads(path.read_text())
        found[path.name] = {
            key: data[key] for key in data if key not in ("seconds", "peak_memory_mb", "provenance", "sha256")
        }
    for path in sorted((out / "poisons").glob("[!.]*")):
        # The header holds the seconds that crafting took.
        found[path.name] = path.read_bytes()[-40 * 3 * 32 * 32 :]
    return found


def left_over(out: Path) -> list[str]:
    """Files besides results and the claims' locks."""
    hidden = [path.name for folder in (out, out / "poisons") for path in folder.glob(".*")]
    return [name for name in hidden if not name.endswith(".lock")]
