"""Two processes with half of each batch end where one process with the whole batch does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import timm.layers
import torch
import torch.distributed as dist
from torch import multiprocessing

from attacks.base import CraftContext
from attacks.mem import Mem
from benchmark.cli.main import main
from benchmark.core.checkpoints import Checkpoint
from benchmark.core.distributed import Processes, process_group, started_processes
from benchmark.core.errors import UsageError
from benchmark.core.spec import parse_spec
from benchmark.grid.records import load_records
from defenses import DEFENSES, Defense, HookContext
from defenses.base import Composed
from tests.grid.grids import results, run
from tests.small import make_dataset
from victims.architecture import Architecture
from victims.clip import Clip
from victims.recipe import Recipe
from victims.training import _step_loss, train

CPU = torch.device("cpu")
RECIPE = Recipe(epochs=2, batch_size=12, lr=1e-3, rows="images", precision="fp32")


class InDouble(Defense):
    """Hands the images over in fp64."""

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return images.double()


def victim(seed: int = 1) -> Clip:
    clip = Architecture("mini-vit").build(seed, CPU, "fp32")
    clip.model.double()
    return clip


def trained(defense: str) -> dict[str, Any]:
    clip = victim()
    hooks = Composed([InDouble(), DEFENSES.build(parse_spec(defense))])
    log = train(clip, make_dataset(24, 3), RECIPE, hooks, seed=1)
    return {"weights": clip.state_dict(), "loss": log.loss, "pixel": log.changes.pixel}


def differentiated(defenses: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    data = make_dataset(12, 1)
    images = data.batch(np.arange(12)).double() / 255
    for spec in defenses.split():
        clip, defense = victim(), DEFENSES.build(parse_spec(spec))
        tokens = clip.tokenizer([own[0] for own in data.captions])
        loss, *_ = _step_loss(clip, images, tokens, tokens, defense, HookContext(1, 0.5))
        loss.backward()
        Processes.current().all_reduce_gradients(clip.parameters(), replicated=clip.log_scale)
        found |= {f"{spec}: {name}": weight.grad for name, weight in clip.named_parameters()}
        found[f"{spec}: loss"] = loss.detach()
    return found


def crafted(_: str) -> dict[str, Any]:
    budget: dict[str, Any] = {"rounds": 2, "surrogate_steps": 3, "pgd_steps": 3, "hotflip_rounds": 1, "candidates": 2}
    attack = Mem(k=2, vocabulary=8, batch_size=8, lr=1e-3, **budget)
    context = CraftContext(lambda seed: Architecture("mini-vit").build(seed, CPU, "fp32"), seed=1, workdir=Path())
    poison = attack.craft(make_dataset(28), context)
    assert poison.delta is not None
    return {
        "delta": torch.from_numpy(np.array(poison.delta)),
        "trigger": poison.trigger,
        "loss": poison.provenance["loss_per_round"],
    }


def member(rank: int, folder: Path, work: Any, argument: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(work(argument), folder / f"{rank}.pt")
    dist.destroy_process_group()


def both(folder: Path, work: Any, argument: str = "") -> list[dict[str, Any]]:
    multiprocessing.start_processes(member, (folder, work, argument), nprocs=2, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_gradients_of_two_processes(tmp_path: Path) -> None:
    """Of defenses in all phases of their training; RoCLIP's pool has an even number of captions."""
    defenses = (
        "none adv-training[steps=2,start=0] ueraser[draws=2] opposite-step[start=0] cleanclip "
        "safeclip[apart=0.9] safeclip[apart=0,sure=0.5] roclip[pool=0.5,every=1]"
    )
    alone = differentiated(defenses)
    for found in both(tmp_path, differentiated, defenses):
        for name, gradient in alone.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-13, msg=name)


@pytest.mark.parametrize("defense", ["none", "mixup", "adv-training[steps=2]"])
def test_a_victim_of_two_processes(defense: str, tmp_path: Path) -> None:
    alone = trained(defense)
    start = victim().state_dict()
    for found in both(tmp_path, trained, defense):
        assert found["loss"] == pytest.approx(alone["loss"], abs=1e-6)  # summed up in fp32
        assert found["pixel"] == pytest.approx(alone["pixel"], rel=1e-6)
        for name, weight in alone["weights"].items():
            torch.testing.assert_close(found["weights"][name], weight, rtol=1e-8, atol=1e-10, msg=name)
    assert not torch.equal(alone["weights"]["model.logit_scale"], start["model.logit_scale"])


def loaded(folder: str) -> dict[str, Any]:
    checkpoint = Checkpoint(Path(folder) / ("here" if Processes.current().is_first else "elsewhere"))
    try:
        return {"state": checkpoint.load(), "said": ""}
    except RuntimeError as error:
        return {"said": str(error)}


def test_processes_do_not_go_on_from_different_checkpoints(tmp_path: Path) -> None:
    """As where a second machine lacks the file: one would begin anew, and nobody would notice."""
    Checkpoint(tmp_path / "here").save({"epoch": 3})
    first, second = both(tmp_path, loaded, str(tmp_path))
    assert all("have read different checkpoints" in each["said"] for each in (first, second))
    shutil.copy(tmp_path / "here", tmp_path / "elsewhere")
    (tmp_path / "meeting").unlink(missing_ok=True)
    assert both(tmp_path, loaded, str(tmp_path)) == [{"state": {"epoch": 3}, "said": ""}] * 2


def test_a_poison_of_two_processes(tmp_path: Path) -> None:
    alone = crafted("")
    first, second = both(tmp_path, crafted)
    assert torch.equal(first["delta"], second["delta"])
    assert first["trigger"] == second["trigger"] == alone["trigger"]
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-3)
    # In fp32, a gradient within rounding of zero may turn over.
    assert (first["delta"] == alone["delta"]).double().mean() > 0.99
    assert (first["delta"] != 0).flatten(1).any(dim=1).all()


IMPORTS = """
from pathlib import Path
import timm.layers
import torch
import torch.distributed as dist
from benchmark.core.distributed import process_group
from tests.grid.grids import run
"""


def torchrun(script: str) -> subprocess.CompletedProcess[str]:
    """A script by ``torchrun``, in two processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [*command, sys.executable, "-c", IMPORTS + script],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=300,
    )


def grid_run(out: Path, *extra: str) -> str:
    """A script's expression that runs the small grid, as a user starts it."""
    return f"run(Path({str(out)!r}), *{extra!r})"


def test_torchrun_makes_the_records_of_one_process(tmp_path: Path) -> None:
    vit = ("--victim", "mini-vit", "--surrogate", "mini-vit")
    assert run(tmp_path / "one", *vit) == 0
    done = torchrun(f"raise SystemExit({grid_run(tmp_path / 'two', *vit)})")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| Defense") == 1  # one process speaks
    assert done.stderr.count("3 cells, 3 to run") == 1
    assert set(results(tmp_path / "two")) == set(results(tmp_path / "one"))
    for one, two in zip(load_records(tmp_path / "one"), load_records(tmp_path / "two"), strict=True):
        assert two.loss == pytest.approx(one.loss, rel=1e-2)
        assert two.key == one.key
        assert (one.provenance["processes"], two.provenance["processes"]) == (1, 2)


def test_runs_that_follow_each_other_stay_together_and_batch_norm_is_not_taken_over_half_a_batch(
    tmp_path: Path,
) -> None:
    """As ``reproduce`` has them: all is there the second time, and both processes know; a refused run ends for both."""
    runs = [grid_run(tmp_path, "--victim", "mini-vit", "--surrogate", "mini-vit")] * 2 + [grid_run(tmp_path)]
    done = torchrun(
        f"with process_group(torch.device('cpu')):\n    codes = [{', '.join(runs)}]\n"
        "raise SystemExit(codes != [0, 0, 2])"
    )
    assert done.returncode == 0, done.stderr
    assert [done.stderr.count(f"3 cells, {left} to run") for left in (3, 0)] == [1, 1]
    assert "batch norm cannot be synchronised on CPUs" in done.stderr


FAILING = """
import benchmark.core.distributed
from defenses.cutout import Cutout
benchmark.core.distributed._SECONDS_TO_AGREE = WAIT
def fail(self, images, at):
    if dist.get_rank() >= FIRST:
        raise ValueError("no such image")
    return images
Cutout.on_images = fail
"""


@pytest.mark.parametrize("everywhere", [True, False])
def test_a_cell_that_fails_in_all_processes_stops_no_other(everywhere: bool, tmp_path: Path) -> None:
    """One that fails in one process alone ends all, because the others wait for it in the middle of a step."""
    clean = ("--attack", "clean", "--victim", "mini-vit", "--surrogate", "mini-vit")
    code = grid_run(tmp_path, *clean, "--defense", "cutout,mixup")
    # Where one fails alone, the time to agree passes in vain.
    failing = FAILING.replace("FIRST", str(int(not everywhere))).replace("WAIT", "10.0" if everywhere else "3.0")
    done = torchrun(f"{failing}raise SystemExit({code})")
    assert done.returncode == 1, done.stderr
    status = {record.defense.spec: record.status for record in load_records(tmp_path)}
    assert status.get("cutout") == ("failed" if everywhere else None)
    assert status.get("mixup") == ("done" if everywhere else None)
    assert "no such image" in done.stderr


def test_a_process_that_fails_ends_the_other() -> None:
    done = torchrun(
        "with process_group(torch.device('cpu')):\n"
        "    if dist.get_rank():\n        raise OSError('the disk is full')\n    dist.barrier()"
    )
    assert done.returncode != 0
    assert "the disk is full" in done.stderr


def test_without_a_group_to_ask_an_error_counts_as_that_of_one_process() -> None:
    """As where gloo finds no way from one machine to another."""
    assert not Processes(0, 2).failed_alike(OSError("the disk is full"))


def test_a_shared_batch_norm_keeps_its_activation() -> None:
    layer = timm.layers.BatchNormAct2d(3, act_layer=torch.nn.GELU).eval()
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    shared = Processes(0, 2).synchronised(torch.nn.Sequential(layer), torch.device("cuda"))
    assert torch.equal(shared(x), layer(x))
    assert shared(x).min() > -0.2  # GELU's lowest value is -0.17
    assert isinstance(next(shared.children()), torch.nn.SyncBatchNorm)


def test_a_batch_is_parted_evenly_or_not_at_all() -> None:
    parts = [Processes(rank, 3).shard(12) for rank in range(3)]
    assert [index for part in parts for index in range(12)[part]] == list(range(12))
    with pytest.raises(Exception, match="is not divisible by"):
        Processes(0, 3).shard(128)


def test_a_number_of_processes_that_is_none_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "")
    assert started_processes() == 1
    for wrong in ("two", "0"):
        monkeypatch.setenv("WORLD_SIZE", wrong)
        with pytest.raises(UsageError, match=f"WORLD_SIZE is '{wrong}', not a number of processes"):
            started_processes()


def test_a_size_without_the_rest_takes_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a job script exports it, without torchrun."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        said = f"WORLD_SIZE is 2, but {name} is not set"
        with pytest.raises(UsageError, match=said), process_group(torch.device("cpu")):
            pass
        monkeypatch.setenv(name, "0")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RANK", "x", "RANK is 'x', not a whole number from 0 up"),
        ("LOCAL_RANK", "-1", "LOCAL_RANK is '-1', not a whole number"),
        ("MASTER_PORT", "abc", "MASTER_PORT is 'abc', not a whole number"),
        ("MASTER_PORT", "99999", "MASTER_PORT is 99999, above 65535"),
        ("RANK", "2", "RANK is 2, but WORLD_SIZE is 2"),
    ],
)
def test_numbers_that_torchrun_would_not_set_take_one_line(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch answers with a traceback, or waits for a process that will never come."""
    for known in ("RANK", "LOCAL_RANK", "MASTER_PORT"):
        monkeypatch.setenv(known, "0")
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(dist, "init_process_group", Mock(side_effect=AssertionError("asked all the same")))
    with pytest.raises(UsageError, match=said), process_group(torch.device("cpu")):
        pass


@pytest.mark.parametrize(
    "words", ["check", "submit FOLDER", "export --format webdataset --out OUT", "protect PHOTOS --out OUT"]
)
def test_commands_that_run_in_one_process_refuse_several(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words.split()) == 2
    assert capsys.readouterr().err == f"error: {words.split()[0]} runs in one process, without torchrun\n"
