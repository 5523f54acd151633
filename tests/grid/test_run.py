"""A run, end to end on a handful of scenes: what victims are given, what is kept, what is run again."""

import json
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock, create_autospec

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import attacks
import benchmark.grid.runner
from attacks.mem import Mem
from benchmark.cli.main import main
from benchmark.core.errors import UsageError
from benchmark.data import LazyImages
from benchmark.grid.events import Events
from benchmark.grid.records import Record, load_records
from benchmark.grid.settings import RunSettings
from tests.grid import grids
from tests.grid.grids import SCENES, data_seen
from tests.grid.test_estimate import opened
from tests.memory import backing_file, linux_only
from victims.architecture import Architecture

ATTACK = (
    "mem[k=2,rounds=1,surrogate_steps=2,pgd_steps=2,step_size=1,"
    "hotflip_rounds=1,candidates=2,vocabulary=20,batch_size=16]"
)
EM = ATTACK.replace("k=2", "k=0")
LEAVES = """
import sys
from dataclasses import dataclass
from attacks import ATTACKS, Attack

@ATTACKS.register("leaves")
@dataclass(frozen=True)
class Leaves(Attack):
    \"""Ends the program.\"""

    def craft(self, train, context):
        sys.exit(0)
"""


def run(out: Path, *extra: str, attack: str = ATTACK, defense: str = "prefix-drop,cutout+random-swap") -> int:
    return grids.run(out, *extra, attack=attack, defense=defense, epochs=1)


def by_cell(folder: Path) -> dict[tuple[str, str], Record]:
    return {(r.attack.label, r.defense.spec): r for r in load_records(folder)}


def test_the_main_job(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    craft = create_autospec(Mem.craft, side_effect=Mem.craft)
    monkeypatch.setattr(Mem, "craft", craft)
    assert run(tmp_path) == 0
    printed = capsys.readouterr()
    for word in ("Clean", ATTACK, "Prefix drop", "Cutout", "R@10", "Medr", "8/255"):
        assert word in printed.out
    assert "4 cells, 4 to run" in printed.err
    assert printed.err.count(" to craft ") == 3
    records = by_cell(tmp_path)
    expected = {("Clean", "none"), ("MEM-2", "none"), ("MEM-2", "prefix-drop"), ("MEM-2", "cutout+random-swap")}
    assert set(records) == expected
    assert craft.call_count == 1  # once for all defenses
    for record in records.values():
        assert record.status == "done"
        assert len(record.epochs) == len(record.loss) == 1
        assert record.seconds["train"] > 0
        assert record.peak_memory_mb["train"] > 100
        assert record.provenance["command"].startswith("python -m benchmark run --attack")
        assert record.dataset.params["test_images"] == 12
        assert 5 < record.data["nearest"] < 100  # no test scene is a training scene
    poison = records["MEM-2", "none"].poison
    assert 0 < poison["largest"] <= 2
    assert 40 < poison["psnr"] < 50  # |δ| of at most 2/255: 20·log10(255/2) = 42.1 dB at the least
    assert 0.9 < poison["ssim"] < 0.9999  # of the images with the noise, not of the clean ones with themselves
    assert sum(poison["trigger_words"].values()) == 80
    assert not records["Clean", "none"].poison
    assert records["MEM-2", "prefix-drop"].changes["words_per_caption"] == pytest.approx(3, abs=0.3)

    # The same command again runs nothing and prints the same table.
    monkeypatch.setattr(benchmark.grid.runner, "train", lambda *a, **k: pytest.fail("ran again"))
    assert run(tmp_path) == 0
    again = capsys.readouterr()
    assert again.out == printed.out
    assert "4 cells, 0 to run" in again.err
    assert again.err.count(" cached ") == 3


@linux_only
def test_victims_train_on_the_protected_set_and_are_measured_on_the_clean_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, measured = data_seen(monkeypatch)
    assert run(tmp_path, "--poisons", "off", defense="none") == 0
    clean, protected = trained
    record = by_cell(tmp_path)["MEM-2", "none"]
    words = set(record.poison["trigger_words"])
    assert len(clean) == len(protected) == 40
    difference = protected.images[:].astype(int) - clean.images
    assert 0 < np.abs(difference).max() <= 8
    assert isinstance(protected.images, LazyImages)
    assert protected.images.noise is not None
    assert ".safetensors" in backing_file(protected.images.noise)
    assert np.abs(difference).reshape(40, -1).max(axis=1).all()
    for own, before in zip(protected.captions, clean.captions, strict=True):
        prefix = own[0].split()[:2]
        assert set(prefix) <= words
        assert own == [" ".join([*prefix, caption]) for caption in before]
    # val and test are the clean splits, the same objects for both victims, without a trigger or noise.
    assert [d.split for d in measured] == ["val", "test", "val", "test"]
    assert measured[0] is measured[2]
    assert measured[1] is measured[3]
    assert measured[1].fingerprint not in {clean.fingerprint, protected.fingerprint}
    assert all(5 <= len(caption.split()) <= 14 for own in measured[1].captions for caption in own)


def test_the_same_seed_gives_the_same_records_timing_and_memory_aside(tmp_path: Path) -> None:
    def result(folder: str, *extra: str) -> list[dict[str, Any]]:
        assert run(tmp_path / folder, "--poisons", "off", *extra, defense="cutout+random-swap") == 0
        kept = []
        for path in sorted((tmp_path / folder).glob("*.json")):
            data = json.loads(path.read_text())
            kept.append(
                {key: data[key] for key in data if key not in ("seconds", "peak_memory_mb", "provenance", "sha256")}
            )
        return kept

    first = result("one")
    assert first == result("two")
    other = result("three", "--seeds", "7,")
    assert [r["loss"] for r in first] != [r["loss"] for r in other]


def test_clean_in_the_attack_list_meets_every_defense(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--dry-run", attack=f"clean,{ATTACK}", defense="standard") == 0
    assert "24 cells, 24 to run" in capsys.readouterr().err  # 2 attacks × (none, the paper's eight, three more)
    assert not list(tmp_path.iterdir())  # a dry run writes nothing


@pytest.mark.parametrize("attack", ["random-trigger[k=2]", ATTACK.replace("[", "[per=row,")])
def test_a_scraper_whose_data_are_all_clean_trains_the_clean_victim(attack: str, tmp_path: Path) -> None:
    """The clean data that a defense is given are those of the rows that were published."""
    assert run(tmp_path, attack=attack, defense="clean-fraction[share=1]") == 0
    by_cell = {(record.attack.spec, record.defense.spec): record.last for record in load_records(tmp_path)}
    clean, undefended = by_cell["clean", "none"], by_cell[attack, "none"]
    assert by_cell[attack, "clean-fraction[share=1]"] == clean != undefended


def test_an_interrupted_grid_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, calls = benchmark.grid.runner.train, []

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*args, **kwargs)

    monkeypatch.setattr(benchmark.grid.runner, "train", interrupted)
    assert run(tmp_path) == 130
    assert len(load_records(tmp_path)) == 2
    monkeypatch.setattr(Mem, "craft", lambda *a, **k: pytest.fail("crafted again"))
    assert run(tmp_path) == 0
    assert len(calls) == 5  # two, the interrupted one, and the two that were missing
    assert len(load_records(tmp_path)) == 4


def test_a_failing_cell_is_reported_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("defenses.prefix_drop.PrefixDrop.on_captions", lambda *a: 1 / 0)
        assert run(tmp_path) == 1
    printed = capsys.readouterr()
    assert "division by zero" in printed.err
    assert "failed" in printed.out
    records = by_cell(tmp_path)
    assert len(records) == 4
    failed = records["MEM-2", "prefix-drop"]
    assert failed.status == "failed"
    assert failed.error["type"] == "ZeroDivisionError"
    assert "Traceback" in failed.error["traceback"]
    assert sum(record.status == "done" for record in records.values()) == 3

    assert run(tmp_path) == 1  # still failed: not run again unless asked for
    assert "0 to run" in capsys.readouterr().err
    assert run(tmp_path, "--rerun", "failed") == 0
    assert "1 to run" in capsys.readouterr().err
    assert by_cell(tmp_path)["MEM-2", "prefix-drop"].status == "done"


@pytest.mark.parametrize("place", ["defenses.prefix_drop.PrefixDrop.on_captions", "attacks.mem.Mem.craft"])
def test_a_device_that_does_nothing_any_more_ends_the_run_and_fails_no_cell(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a GPU after a failed assertion: all other cells would fail in no time, and not run again."""
    with monkeypatch.context() as patch:
        patch.setattr(place, lambda *a: 1 / 0)
        patch.setattr("benchmark.grid.runner.computes", lambda device: False)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path)
    assert {record.status for record in by_cell(tmp_path).values()} <= {"done"}
    assert run(tmp_path) == 0
    assert len(by_cell(tmp_path)) == 4


def test_a_record_that_was_complete_outlives_a_failing_rerun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, defense="prefix-drop") == 0
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.json")}
    with monkeypatch.context() as patch:
        patch.setattr("defenses.prefix_drop.PrefixDrop.on_captions", lambda *a: 1 / 0)
        assert run(tmp_path, "--rerun", "all", defense="prefix-drop") == 1
    assert "division by zero" in capsys.readouterr().err
    assert by_cell(tmp_path)["MEM-2", "prefix-drop"].status == "done"
    (kept,) = [name for name in before if "prefix-drop" in name]
    assert (tmp_path / kept).read_bytes() == before[kept]


def test_a_complete_record_that_was_saved_meanwhile_outlives_a_failure(tmp_path: Path) -> None:
    """A cluster's driver saves one even while another run is at its cell."""
    with opened(tmp_path, "clean", "none") as (grid, (one,)):
        saved = grid.run(one)
        grid.keep(one, one.planned_record.failed("MemoryError", "", ""))
    assert Record.load(one.path) == saved


def test_a_full_disk_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write = Path.write_text

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        if self.name.startswith(".scenes"):
            raise OSError(28, "No space left on device")
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    assert run(tmp_path, attack="clean", defense="none") == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("No space left on device")
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize(
    ("writes", "error"),
    [
        ("benchmark.core.checkpoints.torch.save", OSError(28, "No space left on device")),
        ("attacks.poison.save_file", SafetensorError("I/O error: No space left on device (os error 28)")),
    ],
)
def test_a_disk_that_gets_full_ends_the_run_and_fails_no_cell(
    writes: str, error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small record of a failure would fit, so that all other cells would fail, and not run again."""
    with monkeypatch.context() as patch:
        patch.setattr(writes, Mock(side_effect=error))
        assert grids.run(tmp_path, "--checkpoint-every", "1", defense="none") == 2
        assert capsys.readouterr().err.splitlines()[-1].endswith(": No space left on device")
        with opened(tmp_path / "another", grids.ATTACK, "none") as (grid, planned):
            grid.poisons = replace(grid.poisons, checkpoint_every=1)
            with pytest.raises(UsageError, match="No space left on device"):
                grid.craft(planned[-1])
    assert {record.status for record in by_cell(tmp_path).values()} <= {"done"}
    assert grids.run(tmp_path, defense="none") == 0
    assert len(by_cell(tmp_path)) == 2


@pytest.mark.usefixtures("registries_as_they_were")
@pytest.mark.parametrize("jobs", [[], ["--jobs", "1", "--plugin", str(Path(__file__).with_name("mini_plugin.py"))]])
def test_a_plug_in_that_meets_a_full_disk_ends_the_run_and_fails_no_cell(
    jobs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file of its own, of which the suite knows nothing."""
    plugin = tmp_path / "writes.py"
    full = 'raise OSError(28, "No space left on device")'
    plugin.write_text(LEAVES.replace("sys.exit(0)", full).replace("leaves", "writes").replace("Leaves", "Writes"))
    assert run(tmp_path / "out", "--plugin", str(plugin), *jobs, attack="writes", defense="none") == 2
    assert "No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert {record.status for record in by_cell(tmp_path / "out").values()} <= {"done"}


def test_an_attack_that_ends_the_program_fails_its_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "leaves.py"
    plugin.write_text(LEAVES)
    try:
        assert run(tmp_path / "out", "--plugin", str(plugin), "-v", attack="leaves", defense="none") == 1
    finally:
        del attacks.ATTACKS._entries["leaves"]
    (failed,) = (one for one in load_records(tmp_path / "out") if one.attack.spec == "leaves")
    assert failed.status == "failed"
    assert f'File "{plugin}", line ' in capsys.readouterr().err


def test_events_take_what_is_no_text(tmp_path: Path) -> None:
    events = Events(tmp_path / "events")
    events.tell("failed", reason="bad file caf\udce9.jpg\n")
    events.close()
    (line,) = (tmp_path / "events").read_text("utf-8").splitlines()
    assert json.loads(line)["reason"] == "bad file caf\udce9.jpg\n"


def test_victims_of_one_seed_are_paired_whatever_attack_and_defense(tmp_path: Path) -> None:
    """Without its trigger a poison is Delta only: from one start and in one order the victims come out the same."""
    assert run(tmp_path, attack=f"{ATTACK},{ATTACK.replace('mem', 'delta-only')}", defense="prefix-drop[n=2]") == 0
    records = by_cell(tmp_path)
    dropped, half = records["MEM-2", "prefix-drop[n=2]"], records["Delta only", "none"]
    assert dropped.loss == half.loss
    assert dropped.epochs == half.epochs
    assert dropped.loss != records["MEM-2", "none"].loss


def test_the_surrogate_does_not_start_from_the_victims_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is strongest on the very weights that it was crafted against, which no owner knows of a victim."""
    starts: list[torch.Tensor] = []
    build = Architecture.build

    def kept(*args: Any, **settings: Any) -> Any:
        model = build(*args, **settings)
        starts.append(model.model.visual.conv1.weight.detach().clone())
        return model

    monkeypatch.setattr(Architecture, "build", kept)
    config = "mem[k=0,rounds=2,surrogate_steps=2,pgd_steps=1,step_size=1,batch_size=16,restart_every=1]"
    assert run(tmp_path, attack=config, defense="none") == 0
    distinct = {tuple(start.flatten().tolist()) for start in starts}
    # Two victims of one seed share their start; each of the two rounds has a surrogate of its own.
    assert len(starts) == 4
    assert len(distinct) == 3
    assert torch.equal(starts[0], starts[-1])


def test_repeats_of_a_victim_share_the_poison_and_no_random_choice(tmp_path: Path) -> None:
    repeats = "mini,mini[repeat=2],mini[repeat=1]"
    assert run(tmp_path, "--victim", repeats, attack="random-trigger[k=2]", defense="none") == 0
    attacked = [one for one in load_records(tmp_path) if one.attack.spec != "clean"]
    assert sorted(one.victim.spec for one in attacked) == ["mini", "mini[repeat=2]"]
    first, second = attacked
    assert first.poison == second.poison
    assert first.loss[0] != second.loss[0]


def test_em_has_no_trigger(tmp_path: Path) -> None:
    assert run(tmp_path, attack=EM, defense="none") == 0
    record = by_cell(tmp_path)["EM", "none"]
    assert record.poison["trigger_words"] == {}
    assert record.poison["largest"] > 0


def test_settings_come_from_flags_over_file_over_preset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "grid.yaml"
    small = f"victim: mini\nsurrogate: mini\ndataset: '{SCENES}'\nbatch-size: 16\n"
    config.write_text(f"{small}attack: '{ATTACK}'\ndefense: [none, cutout]\nepochs: 3\n")
    out = tmp_path / "runs"
    flags = ["--epochs", "1", "--out", str(out), "--poisons", str(tmp_path / "p")]
    assert main(["run", "--config", str(config), *flags]) == 0
    (record,) = (r for r in load_records(out) if r.defense.spec == "cutout")
    assert record.recipe["epochs"] == 1
    assert record.recipe["batch_size"] == 16
    assert record.recipe["weight_decay"] == 0.1  # the preset's
    config.write_text("seeds: [4]\npoisons: off\n")
    settings = RunSettings.from_yaml(config)
    assert (settings.seeds, settings.poisons) == ("4,", "off")
    config.write_text(f"{small}dry-run: 'no'\nattack: clean\ndefense: none\n")
    assert main(["run", "--config", str(config), "--epochs", "1", "--out", str(tmp_path / "no")]) == 0
    assert len(load_records(tmp_path / "no")) == 1
    config.write_text("epoch: 3\n")
    capsys.readouterr()
    assert main(["run", "--config", str(config)]) == 2
    assert "did you mean 'epochs'" in capsys.readouterr().err


def test_two_seeds_and_two_victims_share_what_they_can(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--seeds", "2", "--dry-run", defense="none") == 0
    assert "4 cells" in capsys.readouterr().err
    assert run(tmp_path, "--seeds", "2", defense="none") == 0
    assert len(list((tmp_path / "poisons").glob("*.safetensors"))) == 2
    assert "±" in capsys.readouterr().out


def test_clean_data_alone_make_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, attack="clean", defense="cutout") == 0
    assert "Cutout" in capsys.readouterr().out


def test_a_poison_that_cannot_be_crafted_is_tried_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    craft = Mock(side_effect=RuntimeError("out of memory"))
    monkeypatch.setattr(Mem, "craft", craft)
    assert run(tmp_path) == 1
    assert craft.call_count == 1
    records = by_cell(tmp_path)
    assert [records["MEM-2", spec].status for spec in ("none", "prefix-drop", "cutout+random-swap")] == ["failed"] * 3
    assert records["Clean", "none"].status == "done"
    assert "out of memory" in capsys.readouterr().err


def test_an_error_that_is_kept_keeps_nothing_else_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[torch.Tensor]] = []

    def broken(*args: Any, **kwargs: Any) -> Any:
        surrogate = torch.zeros(3)
        alive.append(weakref.ref(surrogate))
        try:
            raise KeyError(surrogate.shape)
        except KeyError as error:
            raise RuntimeError("out of memory") from error

    held: list[bool] = []
    train = benchmark.grid.runner.train

    def watched(*args: Any, **kwargs: Any) -> Any:
        held.extend(one() is not None for one in alive)
        return train(*args, **kwargs)

    monkeypatch.setattr(Mem, "craft", broken)
    monkeypatch.setattr("benchmark.grid.runner.train", watched)
    # The second attack's victim trains when the first one's error has been kept.
    assert run(tmp_path, attack=f"{ATTACK},uniform-noise", defense="none") == 1
    assert held == [False]


def test_a_checkpoint_is_known_by_its_content(tmp_path: Path) -> None:
    identities = []
    for seed in (1, 2):
        torch.save(Architecture("tiny").build(seed, torch.device("cpu")).model.state_dict(), tmp_path / "start.pt")
        identities.append(Architecture("tiny", str(tmp_path / "start.pt")).identity())
    assert identities[0] != identities[1]
    assert Architecture("tiny").identity() not in identities


def test_scores_of_val_are_those_of_val(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark.grid.runner, "evaluate", lambda model, dataset, seed: (dataset, seed))
    model = cast(Any, SimpleNamespace(for_inference=lambda: None))
    splits = cast(Any, SimpleNamespace(train="train", val="val", test="test"))
    found = benchmark.grid.runner._scores(model, splits, cast(Any, "sample"), epoch=3, seed=7)
    assert tuple(vars(found).values()) == (3, ("val", 7), ("test", 7), ("sample", 7))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_surrogates_have_the_precision_of_victims(
    precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built, build = [], Architecture.build

    def noted(self: Architecture, seed: int, device: torch.device, *how: Any, **named: Any) -> Any:
        built.append(how[0])
        return build(self, seed, device, *how, **named)

    monkeypatch.setattr(Architecture, "build", noted)
    grids.run(tmp_path, "--precision", precision, attack=grids.ATTACK, defense="none")
    assert len(built) >= 3  # surrogates among them
    assert set(built) == {precision}
