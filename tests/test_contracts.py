"""What every attack and every defense promises: the built-in ones keep it, and each broken promise is found."""

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from attacks import ATTACKS, Attack, CraftContext, Poison
from attacks.placement import Place
from attacks.uniform_noise import UniformNoise
from benchmark.cli.main import main
from benchmark.contracts import check
from benchmark.contracts.hooks import defense_inputs
from benchmark.core.errors import UsageError
from benchmark.core.parameters import ranged
from benchmark.core.plugins import load_file
from benchmark.data import CaptionDataset
from benchmark.grid.choices import choose_defenses
from benchmark.grid.presets import PRESETS
from defenses import DEFENSES, Defense, HookContext
from defenses.base import Loss, LossInputs, Rows, Score
from tests.defenses.test_every_defense import QUICK
from tests.test_plugins import DARK

pytestmark = pytest.mark.usefixtures("registries_as_they_were")


@pytest.mark.parametrize("name", [*DEFENSES.group("all"), "clean-start", "paraphrase", "ueraser-lite"])
def test_every_defense_keeps_its_contract(name: str) -> None:
    assert not check("defense", QUICK.get(name, name)).broken


SHORT = "[k=1,vocabulary=8]"
SHORTER = {name: name + SHORT for name in ("trigger-only", "delta-only", "trigger-uniform")}
SHORTER |= {"mem-wordwise": "mem-wordwise[k=1,vocabulary=8,restarts=2]"}
SHORTER |= {name: f"{name}[restarts=2]" for name in ("em-wordwise", "em-keyed")}
MEM = ["mem[k=0]", "mem[k=2,vocabulary=8]", "mem[k=1,vocabulary=8,per=row]"]
PLACED = ["mem[k=2,vocabulary=8,place=spread]", "text-hint[place=random]"]
OTHERS = [SHORTER.get(name, name) for name in ATTACKS.group("all") if name not in ("mem", "through", "poison")]


@pytest.mark.parametrize("spec", [*MEM, *PLACED, *OTHERS, "em-aug", "rem", "sem"])
def test_every_attack_keeps_its_contract(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them by preset tiny's model, as the command has it; the others by one of a quarter of its pixels."""
    if spec != MEM[1]:
        for module in ("attack", "verdict"):
            monkeypatch.setattr(f"benchmark.contracts.{module}.VICTIM", "mini")  # of tests/grid/configs
    verdict = check("attack", spec)
    assert not verdict.broken
    assert len(verdict.kept) >= 5


@dataclass
class Nuisance(Defense):
    """Breaks one promise."""

    fault: str
    calls: int = 0

    def on_dataset(self, train: CaptionDataset, clean: CaptionDataset, at: HookContext) -> CaptionDataset:
        if self.fault == "changes its data set":
            train.captions[0][0] = "moon"
        if self.fault == "leaves an image out":
            return replace(train, images=train.images[1:], captions=train.captions[1:], photo=None)
        return train

    def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
        if self.fault == "changes its rows":
            rows[0] = rows[1]
        if self.fault == "repeats a pair":
            return rows[[0, 1, 0]]
        if self.fault == "scores other captions":
            return rows[score(np.stack([rows[:, 0], np.roll(rows[:, 0], 1)], axis=1)) > -2]
        if self.fault == "returns a mask of rows":
            return score(rows) > 0  # type: ignore[return-value]
        return rows

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        if self.fault == "drops a caption":
            return captions[1:]
        if self.fault == "changes its argument":
            captions[0] = "moon"
        if self.fault == "raises":
            raise RuntimeError("no luck")
        if self.fault == "exits":
            sys.exit("no more")
        if self.fault == "goes by its calls":
            self.calls = self.calls % 3 + 1
            return [str(self.calls) * len(captions[0])] * len(captions)
        if self.fault == "counts its calls":
            self.calls += 1
            return captions if self.calls <= 3 else [caption.upper() for caption in captions]
        if self.fault == "loses the captions":
            return None  # type: ignore[return-value]
        return captions

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        if self.fault == "changes the default dtype":
            torch.set_default_dtype(torch.float64)
        if self.fault == "turns gradients off":
            torch.set_grad_enabled(False)
        faults: dict[str, Callable[[], Any]] = {
            "leaves the range": lambda: images + 1,
            "widens": lambda: images.double(),
            "draws from global state": lambda: images * torch.rand(()),
            "keeps a gradient": lambda: images.clone().requires_grad_(),
            "loses the images": lambda: None,
            "fades to nothing": lambda: images / (at.progress < 0.9),
            "fails in the end": lambda: images * [1.0][int(at.progress > 0.9)],
        }
        return faults.get(self.fault, lambda: images)()

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.fault == "returns images alone":
            return images  # type: ignore[return-value]
        return images, targets / 2 if self.fault == "halves the targets" else targets

    def adversarial(self, images: torch.Tensor, loss: Loss, at: HookContext) -> torch.Tensor:
        return images

    def loss(self, batch: LossInputs, at: HookContext) -> torch.Tensor:
        loss = super().loss(batch, at)
        faults: dict[str, Callable[[], Any]] = {"loses its gradient": loss.detach, "is a number": loss.item}
        faults["is not a number"] = lambda: loss * torch.nan
        if self.fault == "has an infinite slope":
            return loss + (batch.image_features - batch.image_features.detach()).pow(2).sum().sqrt()
        if self.fault == "learns its scale alone":
            scale = torch.ones((), requires_grad=True)
            return loss.detach() * scale
        return faults.get(self.fault, lambda: loss)()

    def label(self) -> str:
        return "two\nnames" if self.fault == "has two names" else "one name"

    def describe(self) -> str:
        return "two\nlines" if self.fault == "talks too much" else "one line"


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("none", None),
        ("drops a caption", "none of them empty: on_captions returns 22 for 23, at the first step"),
        ("changes its argument", "arguments are left unchanged: the captions are not"),
        ("changes its data set", "on_dataset changes its argument"),
        ("leaves an image out", "on_dataset returns other numbers of images or captions"),
        ("changes its rows", "on_rows changes its argument"),
        ("returns a mask of rows", "every hook returns: on_rows returns no array (R, 2) of integers"),
        ("repeats a pair", "only pairs that went in come back, and some do: on_rows returns a pair twice"),
        ("scores other captions", "on_rows asks for the score of (0, 41), no image and caption of its own"),
        ("has an infinite slope", "every hook returns: the gradient is not finite"),
        ("is not a number", "the loss is finite: it is nan, at the first step"),
        ("loses its gradient", "every hook returns: the loss has no gradient"),
        ("is a number", "every hook returns: loss returns no scalar tensor"),
        ("learns its scale alone", "tower learns from the loss"),
        ("leaves the range", "within 0 and 1: what on_images returns reaches 1"),
        ("fades to nothing", "within 0 and 1: what on_images returns has values that are not finite, at the last step"),
        (
            "fails in the end",
            "every hook returns: IndexError: list index out of range (in on_images, ",
        ),
        ("widens", "what on_images returns is (8, 3, 64, 64) float64 for (8, 3, 64, 64) float32"),
        ("draws from global state", "global random state"),
        ("changes the default dtype", "gradients and the default dtype are left as they are"),
        ("turns gradients off", "every hook returns: a hook leaves gradients turned off"),
        ("keeps a gradient", "carry no gradient: what on_images returns"),
        ("halves the targets", "sum to one: that of the first is 0.5"),
        ("has two names", "the label is one printable line: 'two\\nnames'"),
        ("talks too much", "one printable line: 'two\\nlines'"),
        ("raises", "every hook returns: RuntimeError: no luck (in on_captions, test_contracts.py:"),
        ("exits", "every hook returns: SystemExit: no more (in on_captions, test_contracts.py:"),
        (
            "counts its calls",
            "a second call with the same seed, by the same object, returns other captions, at the first",
        ),
        (
            "goes by its calls",
            "a second call with the same seed, by a new object with which the training goes on, returns other captions",
        ),
        ("loses the captions", "on_captions returns None, no list"),
        ("loses the images", "shape and dtype: what on_images returns is None"),
        ("returns images alone", "every hook returns: "),
    ],
)
def test_a_broken_promise_of_a_defense_is_found(fault: str, promise: str | None) -> None:
    DEFENSES.register("nuisance")(Nuisance)
    broken = check("defense", f"nuisance[fault={fault}]").broken
    assert any(promise in line for line in broken) if promise else not broken
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() == torch.float32
    assert fault != "fails in the end" or broken[0].endswith("), at the last step")
    assert fault != "is not a number" or broken == [promise]
    assert fault != "exits" or broken[0].endswith("), at the first step")


DRAWN = iter(range(1000))


@dataclass
class Careless(Attack):
    """Breaks one promise."""

    fault: str
    calls: int = 0

    def label(self) -> str:
        return {"label of two lines": "Care\nless", "no label": " "}.get(self.fault, "Careless")

    def describe(self) -> str:
        return "tab\t" if self.fault == "description with a tab" else ""

    def period(self) -> int | None:
        return {"repeats": 4, "repeats elsewhere": 8, "no pixels": 0, "many pixels": 65}.get(self.fault)

    def progress_steps(self, train: CaptionDataset) -> int:
        if self.fault.startswith("goes on"):
            return 3
        return {"half a step": 0.5, "steps as a text": "1"}.get(self.fault, 1)  # type: ignore[return-value]

    def pilot(self) -> tuple[Attack, int] | None:
        if self.fault == "is its own pilot":
            return self, 8
        return 8 if self.fault == "pilot without an attack" else None  # type: ignore[return-value]

    def rounds(self, delta: np.ndarray, context: CraftContext) -> None:
        """Three rounds, each of which takes the noise out of a row of all images."""
        begun = 0
        if (state := context.checkpoint.load()) is not None:
            with context.checkpoint.restoring():
                begun = state["rounds" if self.fault == "goes on with an unknown state" else "round"]
            if self.fault != "goes on without its noise":
                delta[:, :, :begun] = 0
            if self.fault != "goes on without its progress":
                context.progress.resume(begun)
        for number in range(begun, 3):
            delta[:, :, number] = 0
            context.progress.advance()
            if context.checkpoint.is_due(number + 1, 3):
                context.checkpoint.save({"round": number + 1})

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        images = train.images[:].astype(int)
        delta = np.clip(np.full(images.shape, 4), -images, 255 - images).astype(np.int8)
        trigger = ["red dog"] * len(train)
        if self.fault == "overflows":
            delta[:] = 4
        if self.fault.startswith("repeats"):
            delta[..., ::4] = np.minimum(delta[..., ::4], 2)
        if self.fault == "repeats elsewhere":
            delta[:, :, :, 0] = np.minimum(delta[:, :, :, 0], 1)
        if self.fault.startswith("goes on"):
            self.rounds(delta, context)
        if self.fault == "saves an array" and context.checkpoint.is_due(1, 2):
            context.checkpoint.save({"delta": delta})
        if self.fault == "saves unasked":
            context.checkpoint.save({"round": 1})
        for _ in range({"shows progress": 1, "shows two steps": 2}.get(self.fault, 0)):
            context.progress.advance()
        if self.fault == "another size":
            delta = delta[:, :, 1:]
        if self.fault == "writes on the images":
            train.images[:][0, 0, 0, 0] ^= 1
        if self.fault == "forgets the seed":
            delta[0, 0, 0, :7] = next(DRAWN) % 3
        self.calls += 1
        if self.fault == "counts its calls":
            trigger[:5] = [["red dog", "dog red"][self.calls % 2]] * 5
        if self.fault == "drops its noise at times" and self.calls == 2:
            return Poison(None, trigger, 8, train.fingerprint)
        if self.fault == "gradients":
            torch.set_grad_enabled(False)
        if self.fault == "global state":
            np.random.rand()
        if self.fault == "raises":
            raise RuntimeError("no\nluck")
        if self.fault == "returns nothing":
            return None  # type: ignore[return-value]
        if self.fault == "beyond ε":
            delta[0, 0, 0, 0] = 9
        if self.fault == "floats":
            delta = delta.astype(np.float32)
        if self.fault == "too few triggers":
            trigger = trigger[1:]
        trigger[4] = {
            "special token": "red <start_of_text>",
            "escaped special token": "red &lt;END_of_text&gt;",
            "line break": "red\ndog",
            "control character": "red \x07 dog",
        }.get(self.fault, trigger[4])
        place: Any = "end" if self.fault == "place as a text" else Place()
        return Poison(delta, trigger, 8, train.fingerprint, place=place)


@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("none", None),
        ("shows progress", None),
        ("shows two steps", "as progress_steps() says, or none: craft reports 2, not 1"),
        ("half a step", "as progress_steps() says, or none: progress_steps() returns 0.5"),
        ("steps as a text", "as progress_steps() says, or none: progress_steps() returns '1'"),
        (
            "saves an array",
            "poison: TypeError: a checkpoint holds tensors, numbers, strings, lists and dicts; state['de",
        ),
        ("saves unasked", "poison: AssertionError: a checkpoint is saved only where is_due() says so (in craft, "),
        ("goes on", None),
        ("goes on without its noise", "goes on from its checkpoint to the same poison: 8,023 of"),
        ("goes on without its progress", "to the same poison: it reports 1 steps in place of 3"),
        ("goes on with an unknown state", "to the same poison: UnfitCheckpointError: 'rounds'"),
        ("repeats", None),
        ("repeats elsewhere", "values differ from those 8 pixels to the right"),
        ("no pixels", "the noise repeats with its period(): it is 0, on images of 64 pixels"),
        ("many pixels", "the noise repeats with its period(): it is 65, on images of 64 pixels"),
        ("is its own pilot", None),
        ("pilot without an attack", "pilot() is None, or a shorter attack and a number of rows: it is 8"),
        ("gradients", "gradients and the default dtype are left as they are"),
        ("overflows", "within 0 and 255"),
        ("writes on the images", "training set is left unchanged"),
        ("forgets the seed", "same seed gives the same poison: 7 of 258,048 values of the noise differ"),
        ("counts its calls", "same poison: 5 of 21 triggers differ, when the same object crafts again"),
        ("drops its noise at times", "same poison: the delta's shape is (21, 3, 64, 64) and none"),
        ("global state", "global random state"),
        ("raises", "crafting returns a poison: RuntimeError: no luck"),
        ("returns nothing", "crafting returns a poison: TypeError: craft returned NoneType"),
        ("beyond ε", "crafting returns a poison: DamagedPoison"),
        ("floats", "crafting returns a poison: PoisonError: a perturbation is int8"),
        ("place as a text", "PoisonError: not a poison: place: Expected `Place`, such as Place('end'), got `str`"),
        ("too few triggers", "crafting returns a poison: DamagedPoison: there are 20 triggers for 21 images"),
        ("another size", "the images' shape: (21, 3, 63, 64), the images' is (21, 3, 64, 64)"),
        ("special token", "crafting returns a poison: PoisonError: the trigger of row 4 has a special token"),
        ("escaped special token", "crafting returns a poison: PoisonError: the trigger of row 4 has a special token"),
        ("line break", "PoisonError: the trigger of row 4 has a line break or control character: 'red\\ndog'"),
        ("control character", "PoisonError: the trigger of row 4 has a line break or control character"),
        ("label of two lines", "the label is one printable line: 'Care\\nless'"),
        ("no label", "the label is one printable line: ' '"),
        ("description with a tab", "the description is at most one printable line: 'tab\\t'"),
    ],
)
def test_a_broken_promise_of_an_attack_is_found(fault: str, promise: str | None) -> None:
    ATTACKS.register("careless")(Careless)
    verdict = check("attack", f"careless[fault={fault}]")
    assert any(promise in line for line in verdict.broken) if promise else not verdict.broken
    assert torch.is_grad_enabled()
    assert fault != "none" or verdict.measured == [
        "noise up to 4/255 in 100% of the images, triggers of 2 words on average"
    ]


def test_the_contract_says_if_an_attack_does_nothing() -> None:
    assert check("attack", "clean").measured == ["neither noise nor a trigger"]


@dataclass(frozen=True)
class Part(UniformNoise):
    """Leaves 0 to 255, unless it returns nothing."""

    nothing: bool = False
    part_of = "uniform-noise"

    def derive_from(self, whole: Poison, train: CaptionDataset, context: CraftContext) -> Poison:
        assert whole.delta is not None
        drawn = np.random.randint(7, 9, whole.delta.shape, np.int8)
        return None if self.nothing else replace(whole, delta=drawn)  # type: ignore[return-value]


def test_of_an_attack_that_changes_anothers_poison_its_own_one_is_tested() -> None:
    ATTACKS.register("half")(Part)
    unclean, drawn, leaves = check("attack", "half").broken
    assert unclean == "the global random state is left unchanged"
    assert drawn.startswith("the same seed gives the same poison: ")
    assert leaves == "image + noise stays within 0 and 255: it reaches 7 and 263"
    (nothing,) = check("attack", "half[nothing=yes]").broken
    assert "UsageError: attack half: derive_from returned NoneType, not a Poison" in nothing


def test_a_composition_has_a_contract_as_well() -> None:
    verdict = check("defense", "cutout+random-swap")
    assert not verdict.broken
    assert len(verdict.kept) >= 9
    DEFENSES.register("nuisance")(Nuisance)
    (line,) = check("defense", "cutout+nuisance[fault=has two names]").broken
    assert line.startswith("the label is one printable line")


def test_hooks_are_told_which_photos_rows_and_captions_belong_to() -> None:
    @DEFENSES.register("asks")
    class Asks(Defense):
        """Drops every second photo, and the first word of every second photo's captions."""

        def on_rows(self, rows: Rows, score: Score, at: HookContext) -> Rows:
            assert at.photo is not None
            return rows[at.photo[rows[:, 0]] % 2 == 0]

        def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
            assert at.caption_photos is not None
            odd = at.caption_photos % 2
            return [text.partition(" ")[2] if drop else text for text, drop in zip(captions, odd, strict=True)]

    assert not check("defense", "asks").broken


@dataclass
class Ample(Careless):
    """A correct attack whose parameters have other ranges and meanings than those of the built-in ones."""

    fault: str = "none"
    steps: int = ranged(100, 10)
    channels: Literal["rgb", "luma"] = "rgb"


def test_a_small_budget_is_not_forced_on_parameters_that_refuse_it() -> None:
    ATTACKS.register("ample")(Ample)
    assert not check("attack", "ample").broken
    with pytest.raises(UsageError, match="steps must be at least 10, got 2"):
        check("attack", "ample[steps=2]")


def test_crafting_that_stops_early_has_done_all_of_its_steps() -> None:
    assert not check("attack", "mem[k=1,vocabulary=8,stop_loss=100]").broken


@pytest.mark.parametrize(
    ("name", "guess"), [("on_image", "did you mean on_images?"), ("on_start", "there are on_data")]
)
def test_a_misspelled_hook_is_refused_where_its_class_is_made(name: str, guess: str) -> None:
    with pytest.raises(TypeError, match=rf"Typo\.{name} is no hook of a defense; {re.escape(guess)}"):
        type("Typo", (Defense,), {"on_batch": Defense.on_batch, name: lambda self, images, at: images / 2})


def test_a_defense_without_a_hook_fails_and_does_not_run() -> None:
    @DEFENSES.register("empty")
    class Empty(Defense):
        """Nothing at all."""

        def images(self) -> None:
            """A method of its own, which is called as its author likes."""

    (line,) = check("defense", "cutout+empty").broken
    assert line.startswith("at least one hook is overridden: Empty has none of on_dataset, on_rows, on_captions,")
    with pytest.raises(
        UsageError, match=r"defense empty overrides no hook \(on_dataset, .*, so it would change nothing"
    ):
        choose_defenses("empty", PRESETS["tiny"])


def test_of_a_composition_every_promise_is_told_once() -> None:
    kept = check("defense", "jpeg+cutout").kept
    assert len(set(kept)) == len(kept)


@pytest.mark.parametrize("text", ["standard", "jpeg+table2"])
def test_a_group_is_no_defense(text: str) -> None:
    with pytest.raises(UsageError, match=r"'(standard|table2)' is a group of defenses; name one"):
        check("defense", text)


def test_a_defense_that_says_it_changes_nothing_must_change_nothing() -> None:
    @DEFENSES.register("modest")
    class Modest(Defense):
        """Darkens images all the same."""

        changes_nothing = True

        def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
            return images / 2

    assert check("defense", "modest").broken == ["it changes nothing, as it says"]
    assert "it changes nothing, as it says" in check("defense", "none").kept


@dataclass(frozen=True)
class Measured(Defense):
    """Changes everything by known amounts."""

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        return [f"two words {caption}" for caption in captions]

    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return images.where(images > 0.5, images + 51 / 255)

    def on_batch(
        self, images: torch.Tensor, targets: torch.Tensor, at: HookContext
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return images, targets.lerp(targets.roll(1, dims=0), 0.25)


@dataclass(frozen=True)
class Blackened(Defense):
    def on_images(self, images: torch.Tensor, at: HookContext) -> torch.Tensor:
        return images * 0


def test_the_contract_says_how_much_a_defense_changes() -> None:
    DEFENSES.register("measured")(Measured)
    (line,) = check("defense", "measured").measured
    words, pixels, targets = line.split(", ")
    assert words == "on_captions changes 2 words per caption"
    dark = float((defense_inputs()["images"] <= 0.5).float().mean())
    assert 0.4 < dark < 0.6
    assert pixels == f"on_images changes pixels by {51 * dark:.3g}/255 on average"
    assert targets == "on_batch moves 25% of an image's target to other captions"
    assert check("defense", "clean-fraction[share=0.5]").measured == ["on_dataset changes the data"]
    DEFENSES.register("blackened")(Blackened)
    grey = float(defense_inputs()["images"].mean()) * 255
    assert grey > 100  # three digits, which must not become 1.3e+02
    assert check("defense", "blackened").measured[0].startswith(f"on_images changes pixels by {grey:.0f}/255 on")
    assert check("defense", "none").measured == ["no hook changes anything"]


def test_parameters_out_of_range_take_one_form_of_message() -> None:
    wrong = {
        ("attack", "mem[k=33]"): "attack mem: k must be between 0 and 32, got 33",
        ("attack", "mem3[step_size=9]"): "attack mem: step_size must be at most eps = 8, got 9",
        ("attack", "delta-only[step_size=9]"): "attack delta-only: step_size must be at most eps = 8, got 9",
        ("attack", "uniform-noise[eps=0]"): "attack uniform-noise: eps must be between 1 and 127 (in 1/255), got 0",
        ("attack", "mem[vocabulary=1]"): "attack mem: vocabulary must be at least 2 (in words), got 1",
        ("defense", "cutout[size=1.5]"): "defense cutout: size must be above 0 and at most 1, got 1.5",
        ("defense", "adv-training[start=1]"): "defense adv-training: start must be at least 0 and below 1, got 1",
    }
    for (kind, spec), message in wrong.items():
        with pytest.raises(UsageError) as raised:
            check(kind, spec)
        assert str(raised.value) == message


@pytest.mark.parametrize("k", ["0.5", "-1", "2"])
def test_a_parameter_k_is_a_whole_number(k: str) -> None:
    """Tables order attacks by it, and records hold no other."""

    @ATTACKS.register("counted")
    @dataclass(frozen=True)
    class Counted(UniformNoise):
        """Has a k of another kind."""

        k: float = 1.0

    with pytest.raises(UsageError, match=f"attack counted: k must be a whole number from 0 on, or none, got {k}"):
        check("attack", f"counted[k={k}]")


def test_a_class_that_lacks_a_method_takes_one_line() -> None:
    class Unfinished(Attack):
        """Nothing but a name."""

    ATTACKS.register("unfinished")(Unfinished)  # type: ignore[type-abstract]
    with pytest.raises(UsageError, match=r"attack unfinished lacks craft\(\)"):
        check("attack", "unfinished")


def test_the_contract_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dark.py").write_text(DARK.format(name="dark", share=0.5))
    assert main(["contract", "defense", "dark", "--plugin", str(tmp_path / "dark.py")]) == 0
    printed = capsys.readouterr().out
    assert "✓ images and targets stay within 0 and 1" in printed
    assert "· on_images changes pixels by " in printed
    assert main(["contract", "defense", "dark[share=-1]"]) == 1
    assert "✗ images and targets stay within 0 and 1" in capsys.readouterr().out
    load_file(tmp_path / "dark.py")  # a second time changes nothing


def test_names_of_parameters_are_a_tuple() -> None:
    """A single name in its place would be read letter by letter."""
    with pytest.raises(TypeError, match=r"Old\.crafted_through is a tuple of names, such as \('through',\)"):
        type("Old", (Attack,), {"crafted_through": "through"})
