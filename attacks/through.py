"""Crafting through a defense: the surrogates see images as a victim under that defense would."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

from attacks.base import ATTACKS, Attack, CraftContext
from attacks.poison import Poison
from benchmark.core.errors import UsageError
from benchmark.core.parameters import added_later, ranged
from benchmark.core.seeding import derive_seed
from benchmark.core.spec import Spec, parse_spec
from benchmark.data import CaptionDataset
from defenses.base import Defense
from victims.clip import Clip
from victims.passage import Passage, image_defense

_WITHOUT_SURROGATE = "builds no surrogate that could look through a defense"


@ATTACKS.register(
    "through",
    order=19,
    aliases={
        "em-aug": {"attack": "em", "defense": "strong-augment[s=0.6]"},
        "sem": {"attack": "em", "defense": "crop-flip+random-noise[std=2.3]"},
        "rem": {"attack": "em", "defense": "crop-flip+adv-training[eps=4,steps=3]"},
    },
)
@dataclass(frozen=True)
class Through(Attack):
    """Any attack that trains surrogates, with a defense's hooks on images in front of them.

    The defense stands wherever a surrogate looks at images: in its training, and where noise is adapted to it. This is
    expectation over transformations (Athalye et al. 2018, "Synthesizing Robust Adversarial Examples").

    ``em-aug`` is EM through the augmentations of contrastive learning, as in Wang et al. 2024, "Efficient Availability
    Attacks against Supervised and Contrastive Learning Simultaneously". ``sem`` is EM through crops and noise, after
    Liu et al. 2024, "Stable Unlearnable Example", with normal noise of the variance that the paper's uniform noise
    within 4/255 has. In the paper the surrogate is trained adversarially and sees no such noise, and so it is at preset
    ``paper``; in the small presets it sees noise and is not trained adversarially. ``rem`` is EM through crops and
    adversarial training, as in Fu et al. 2022, "Robust Unlearnable Examples", section 4.2: the noise lowers the loss of
    the worst image within 4/255 of a crop (three PGD steps; ten in the paper).

    The published code of ``sem`` and ``rem`` averages each gradient of the noise over five draws; here a step sees one.
    There the noise starts anew from uniform noise before every step of the surrogate, takes ten PGD steps, and is found
    once more against the last surrogate. Here it goes on from round to round, as in EM. Its crops shift an image by up
    to an eighth of its side and leave pixels as they are; ``crop-flip`` enlarges a part, which interpolates the noise.

    Args:
        attack: name and parameters, such as ``mem3`` or ``em[rounds=8]``.
        defense: one with an image hook or an adversarial one, such as ``jpeg+crop-flip`` or ``adv-training[eps=4]``.
        share: of the batches that pass it; in the papers of ``em-aug``, ``sem`` and ``rem`` all.
        trained_through: the defense that batches pass while a surrogate trains; ``None``: the same one.
    """

    attack: str
    defense: str
    share: float = ranged(0.5, above=0, at_most=1)
    trained_through: str | None = added_later(None)

    crafted_through: ClassVar[tuple[str, ...]] = ("defense", "trained_through")

    def __post_init__(self) -> None:
        super().__post_init__()
        # Asked of the class, as each through within another would build the next, hundreds deep.
        inner = ATTACKS.entry(parse_spec(self.attack).name).factory
        if inner.part_of is not None or issubclass(inner, Through):
            raise UsageError(f"attack through: {self.attack} cannot be crafted through a defense")
        if not self.inner.builds_surrogate:
            raise UsageError(f"attack through: {self.attack} {_WITHOUT_SURROGATE}")
        if self.trained_through is not None and self.inner.learns_in_training:
            raise UsageError(
                f"attack through: {self.attack} learns its noise while surrogates train, and takes no trained_through"
            )
        self._in_front()

    @cached_property
    def inner(self) -> Attack:
        """The attack whose surrogates look through the defense."""
        return ATTACKS.build(parse_spec(self.attack))

    def with_budget(self, values: Mapping[str, Any]) -> "Through":
        """The same, with all parameters of the inner attack written out.

        Args:
            values: for parameters that ``attack`` does not give; parameters in neither of them have their defaults.
        """
        inner = parse_spec(self.attack)
        return replace(self, attack=str(Spec(inner.name, ATTACKS.written(inner, values))))

    def label(self) -> str:
        """The name in tables."""
        return f"{self.inner.label()} through {self.defense}{self._trained}"

    def describe(self) -> str:
        """The strength in words."""
        passed = f"{100 * self.share:g}% of the surrogates' batches through {self.defense}"
        return f"{self.inner.describe()}; {passed}{self._trained}"

    def identity(self) -> str:
        """That of the inner attack, and the version of its code where that is the suite's own."""
        return f"{type(self.inner).__name__} {self.inner.version} {self.inner.identity()}"

    def progress_steps(self, train: CaptionDataset) -> int:
        """Those of the attack."""
        return self.inner.progress_steps(train)

    def step_kinds(self, train: CaptionDataset) -> Sequence[str]:
        """Those of the attack."""
        return self.inner.step_kinds(train)

    def pilot(self) -> "tuple[Through, int] | None":
        """The attack's, through the same defense."""
        if (pilot := self.inner.pilot()) is None:
            return None
        shorter, rows = pilot
        written = {field.name: getattr(shorter, field.name) for field in fields(shorter)}  # type: ignore[arg-type]
        return replace(self, attack=str(Spec(ATTACKS.name_of(type(shorter)), written))), rows

    def period(self) -> int | None:
        """That of the attack."""
        return self.inner.period()

    def check(self, train: CaptionDataset) -> None:
        """As the attack checks them."""
        self.inner.check(train)

    def craft(self, train: CaptionDataset, context: CraftContext) -> Poison:
        """The attack's poison, crafted on surrogates behind the defense; see :meth:`attacks.base.Attack.craft`.

        Raises:
            UsageError: the attack builds no surrogate, though it says that it does.
        """
        built = 0

        def surrogate(seed: int) -> Clip:
            nonlocal built
            built += 1
            model = context.surrogate(seed)
            adapted, trained = self._in_front()
            model.passage = Passage(adapted, self.share, derive_seed(seed, "through"), trained)
            return model

        poison = self.inner.craft(train, replace(context, surrogate=surrogate))
        if not built:
            raise UsageError(f"attack through: {self.attack} {_WITHOUT_SURROGATE}")
        return poison

    @property
    def _trained(self) -> str:
        return f", trained through {self.trained_through}" if self.trained_through else ""

    def _in_front(self) -> tuple[Defense, Defense]:
        """The defenses in front of a surrogate: where noise is adapted to it, and while it trains."""
        adapted, trained = (
            image_defense(text, "attack through", adversarial=True)
            for text in (self.defense, self.trained_through or self.defense)
        )
        return adapted, trained
