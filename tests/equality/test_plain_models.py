"""Whole cells on open_clip's own modules against the same cells on the fast paths."""

import cProfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import benchmark as ub
import victims.fast
from benchmark.core.precision import Precision
from tests.equality.test_algorithm import InDouble
from tests.small import noise_of
from victims.architecture import Architecture
from victims.clip import Clip

FAST = Path(victims.fast.__file__).parent
SCENES = "scenes[train=96,val=32,test=64,objects=40]"
SMALLER = "scenes[train=32,val=8,test=16,objects=40]"
SMALL = "mem3[rounds=2,surrogate_steps=4,pgd_steps=2,hotflip_rounds=2,candidates=3,vocabulary=20,batch_size=32]"


@dataclass(frozen=True)
class Outcome:
    """What a cell of clean data and one of protected data come to.

    Attributes:
        delta: (N, 3, H, W) int8, the poison's noise.
        trigger: the poison's triggers in words.
        crafting_loss: mean loss after every round, nats.
        records: of the victim of clean data and of that of protected data.
    """

    delta: NDArray[np.int8]
    trigger: list[str]
    crafting_loss: list[float]
    records: tuple[ub.Record, ub.Record]


def outcome(
    folder: Path,
    *,
    plain: bool,
    attack: str = SMALL,
    dataset: str | None = SCENES,
    epochs: int | None = 2,
    batch_size: int | None = 32,
    optimizer: Literal["adamw", "muon"] | None = None,
) -> Outcome:
    """Run MEM-3 at preset micro, undefended, with the changes given."""
    out = folder / ("plain" if plain else "fast")
    settings = ub.RunSettings(
        attack=attack,
        defense="none",
        dataset=dataset,
        preset="micro",
        out=out,
        device="cpu",
        poisons=str(out / "poisons"),
        plain_models=plain,
        epochs=epochs,
        batch_size=batch_size,
        optimizer=optimizer,
    )
    clean, protected = ub.run(settings)
    assert [clean.error, protected.error] == [{}, {}]
    poison = ub.craft(ub.load_dataset(settings).train, settings)  # the run's own, from its store
    assert poison.trigger is not None
    return Outcome(noise_of(poison), poison.trigger, poison.provenance["loss_per_round"], (clean, protected))


def recalls(record: ub.Record) -> NDArray[np.float64]:
    """Recall@1, 5 and 10 on test in both directions, in %."""
    test = record.last.test
    scores = (test.image_to_text, test.text_to_image)
    return np.array([(one.recall_at_1, one.recall_at_5, one.recall_at_10) for one in scores])


def in_double(
    original: Callable[..., Clip],
) -> Callable[[Architecture, int, torch.device, Precision, bool], Clip]:
    """``Architecture.build`` with weights and pixels in fp64."""

    def build(architecture: Architecture, seed: int, device: torch.device, precision: Precision, plain: bool) -> Clip:
        clip = original(architecture, seed, device, precision, plain)
        return InDouble(clip.model.double(), device, precision, clip.plain)

    return build


def test_a_cell_of_both_in_fp64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In fp64, rounding is too small to decide anything: triggers and recalls are equal, losses to 1e-6 (relative).

    Noise may differ at one value in 10,000: PGD moves by the sign of the gradient, and the gradient may be zero but for
    rounding. Measured: noise, victims' losses and recalls are equal, the crafting losses differ by 1e-15.
    """
    monkeypatch.setattr(Architecture, "build", in_double(Architecture.build))
    fast, plain = (outcome(tmp_path, plain=plain, dataset=SMALLER) for plain in (False, True))
    assert plain.trigger == fast.trigger
    assert (plain.delta != fast.delta).mean() <= 1e-4
    assert np.abs(plain.delta).max() > 4
    assert plain.crafting_loss == pytest.approx(fast.crafting_loss, rel=1e-6)
    for by_plain, by_fast in zip(plain.records, fast.records, strict=True):
        assert by_plain.loss == pytest.approx(by_fast.loss, rel=1e-6)
        assert (recalls(by_plain) == recalls(by_fast)).all()
        assert by_plain.key != by_fast.key
        assert (by_plain.provenance["models"], by_fast.provenance["models"]) == ("plain", "fast")


@contextmanager
def files_called() -> Iterator[set[str]]:
    """Names of the files in ``victims/fast`` whose functions were called inside the block, once it has ended."""
    called: set[str] = set()
    with cProfile.Profile() as profile:
        yield called
    paths = [Path(entry.code.co_filename) for entry in profile.getstats() if isinstance(entry.code, CodeType)]
    called.update(path.name for path in paths if path.parent == FAST)


@pytest.fixture(scope="module")
def in_fp32(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Outcome], list[set[str]]]:
    """One round and two epochs on the fast paths and on plain models, and the files of the fast paths that each ran."""
    folder, outcomes, files = tmp_path_factory.mktemp("fp32"), [], []
    for plain in (False, True):
        with files_called() as called:
            attack = SMALL.replace("rounds=2", "rounds=1", 1).replace("]", ",optimizer=adamw]")
            outcomes.append(outcome(folder, plain=plain, attack=attack, optimizer="adamw"))
        files.append(called)
    return outcomes, files


def test_plain_models_call_no_function_of_the_fast_paths(in_fp32: tuple[list[Outcome], list[set[str]]]) -> None:
    by_fast, by_plain = in_fp32[1]
    assert by_fast == {path.name for path in FAST.glob("[!_]*.py")}
    assert by_plain == set()


def test_a_cell_of_both_in_fp32(in_fp32: tuple[list[Outcome], list[set[str]]]) -> None:
    """In fp32, the two add up in different orders, so they round differently, and the algorithm amplifies that.

    A step of PGD moves by the gradient's sign, and Adam's first steps by little more: where a gradient is zero but for
    rounding, they may go either way. Measured on an AMD EPYC: equal triggers; noise that differs at 0.9 % of all
    values; relative differences of 7e-7 in the crafting loss, of 8e-7 in the loss on clean data and of 0.3 % in that on
    protected data; equal recalls on clean data, and at most 1.3 points apart on protected data.

    Twice the fast paths with start weights that differ in the last bit are as far apart or farther: noise at 0.9 and
    5.4 % of all values, crafting losses by 8e-7 and 8e-6, losses on clean data by 3e-4 and 4e-4. The bounds leave room
    for both, and so for another machine's rounding. All this with AdamW: Muon's iteration runs in bf16 and turns
    rounding into noise that differs at a fifth of all values. In fp64, both are equal with Muon, too.
    """
    fast, plain = in_fp32[0]
    assert np.mean([one == other for one, other in zip(plain.trigger, fast.trigger, strict=True)]) >= 0.9
    assert (plain.delta != fast.delta).mean() <= 0.15
    assert plain.crafting_loss == pytest.approx(fast.crafting_loss, rel=1e-4)
    for by_plain, by_fast, loss, recall in zip(plain.records, fast.records, (1e-3, 0.02), (2, 5), strict=True):
        assert by_plain.loss == pytest.approx(by_fast.loss, rel=loss)
        assert np.abs(recalls(by_plain) - recalls(by_fast)).max() <= recall


@pytest.mark.slow
def test_a_cell_of_both_at_preset_micro(tmp_path: Path) -> None:
    """Over five rounds, rounding grows into what another seed does: the noise is another, of the same strength.

    Every round starts a new surrogate on the noise so far, so that a difference at 1 % of the noise is one at half of
    it two rounds later; twice the fast paths with start weights that differ in the last bit do the same. Only the first
    round's loss and the clean victim, who sees no noise, stay close.

    The bounds on protected data are three standard deviations of the difference of two seeds, by the eight seeds in
    results/reference/micro (R@10 18.0 ± 7.2 %, crafting loss 2.13 ± 0.11 nats, PSNR 33.13 ± 0.17 dB; the difference
    has √2 times these).
    """
    fast, plain = (
        outcome(tmp_path, plain=plain, attack="mem3", dataset=None, epochs=None, batch_size=None)
        for plain in (False, True)
    )
    assert plain.crafting_loss[0] == pytest.approx(fast.crafting_loss[0], rel=1e-3)
    assert np.mean(plain.crafting_loss) == pytest.approx(np.mean(fast.crafting_loss), abs=0.47)
    (clean, protected), (clean_fast, protected_fast) = plain.records, fast.records
    assert clean.loss == pytest.approx(clean_fast.loss, rel=0.15)
    assert np.abs(recalls(clean) - recalls(clean_fast)).max() <= 8
    assert protected.last.test.mean_recall_at_10 == pytest.approx(protected_fast.last.test.mean_recall_at_10, abs=30)
    assert protected.poison["psnr"] == pytest.approx(protected_fast.poison["psnr"], abs=0.72)
    assert clean.last.test.mean_recall_at_10 > 2 * protected.last.test.mean_recall_at_10
