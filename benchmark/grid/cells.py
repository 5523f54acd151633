"""Cells: data set × attack × defense × victim × seed, and the addresses of their results and poisons."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from attacks import ATTACKS, Attack
from attacks.through import Through
from benchmark.core.digests import json_sha256
from benchmark.core.errors import UsageError
from benchmark.core.plugins import source_of
from benchmark.core.registry import Registry
from benchmark.core.seeding import derive_seed
from benchmark.core.spec import Spec, parse_spec, split_outside_brackets
from benchmark.data import DATASETS, DatasetSource
from benchmark.grid.records import ResolvedSpec
from defenses import DEFENSES, Defense
from victims.architecture import Architecture
from victims.clip import Clip
from victims.recipe import Recipe

# Part of every cell's address: raise it when training, defenses or metrics change what they compute.
RESULTS_VERSION = 1


@dataclass(frozen=True)
class ChosenAttack:
    """An attack ready to craft, and its entry in the record."""

    attack: Attack
    choice: ResolvedSpec

    @property
    def is_clean(self) -> bool:
        """Whether the data stay as they are."""
        return self.choice.spec == "clean"


@dataclass(frozen=True)
class ChosenDefense:
    """A defense ready to train under, and its entry in the record."""

    defense: Defense
    choice: ResolvedSpec


@dataclass(frozen=True)
class ChosenDataset:
    """A data set ready to load, and its entry in the record."""

    source: DatasetSource
    choice: ResolvedSpec

    def for_seed(self, seed: int) -> "ChosenDataset":
        """The data set of a seed's cells; itself where all seeds share one.

        Raises:
            UsageError: a plug-in's data set returns something else.
        """
        source = self.source.for_seed(seed)
        if not isinstance(source, DatasetSource):
            kind = type(source).__name__
            raise UsageError(f"data set {self.choice.spec}: for_seed() returns {kind}, not a DatasetSource")
        if source is self.source:
            return self
        params = {**self.choice.params, "seed": seed, "per_seed": True}
        return ChosenDataset(source, replace(self.choice, params=params))


@dataclass(frozen=True)
class Cell:
    """A unit of work, which ends as one record.

    Attributes:
        dataset: the data, those of the seed where each seed has data of its own.
        attack: what protects the training split.
        defense: what the victim trains under.
        victim: the model that trains on the protected data.
        surrogate: the model that the attack crafts with.
        recipe: the victim's training.
        seed: all random choices derive from it.
        plain_models: whether both models run on open_clip's own modules instead of the fast paths.
        command: the shell command that its record names.
    """

    dataset: ChosenDataset
    attack: ChosenAttack
    defense: ChosenDefense
    victim: Architecture
    surrogate: Architecture
    recipe: Recipe
    seed: int
    plain_models: bool = False
    command: str = ""

    @property
    def crafted_by(self) -> str | None:
        """The surrogate, as on the command line; ``None`` if the attack builds none."""
        return str(self.surrogate) if self.attack.attack.builds_surrogate else None

    def build_victim(self, seed: int, device: torch.device) -> Clip:
        """The victim before its training."""
        return self.victim.build(seed, device, self.recipe.precision, self.plain_models)

    def build_surrogate(self, seed: int, device: torch.device) -> Clip:
        """A surrogate before its training; its start weights are not those of a victim of the same seed."""
        return self.surrogate.build(derive_seed(seed, "surrogate"), device, self.recipe.precision, self.plain_models)

    def key(self, fingerprints: Sequence[str]) -> str:
        """The cell's address: a hash of everything that decides its result, data included.

        Args:
            fingerprints: of the train, val and test split.
        """
        return content_key(
            RESULTS_VERSION,
            list(fingerprints),
            self.poison_identity(),
            # As a list, for the order of composed defenses counts.
            [[name, params, *_defense_code(name)] for name, params in self.defense.choice.params.items()],
            self.victim.identity(),
            asdict(self.recipe),
            self.seed,
            *self._plain(),
        )

    def poison_identity(self) -> Any:
        """All that the poison depends on besides its data. Clean data depend on neither surrogate nor seed."""
        if self.attack.is_clean:
            return "clean"
        attack, params = self.attack.attack, dict(self.attack.choice.params)
        surrogate = [self.surrogate.identity(), self.recipe.precision]
        foreign = _foreign(ATTACKS, parse_spec(self.attack.choice.spec).name)
        method = [type(attack).__name__, attack.version, attack.identity(), params]
        return [*method, surrogate, self.seed, *foreign, *_code_within(attack), *self._plain()]

    def _plain(self) -> list[str]:
        """Part of the addresses of plain models alone, because their results differ in rounding."""
        return ["plain models"] if self.plain_models else []

    def code(self) -> dict[str, str]:
        """Short hashes that tell versions of the code of data set, attack and defense, and of files they read."""
        crafter = self.attack.attack
        attack = [
            RESULTS_VERSION,
            crafter.version,
            crafter.identity(),
            *_foreign(ATTACKS, parse_spec(self.attack.choice.spec).name),
            *_code_within(crafter),
        ]
        defense = [RESULTS_VERSION, *(_defense_code(name) for name in self.defense.choice.params)]
        dataset = [self.dataset.source.version, *_foreign(DATASETS, parse_spec(self.dataset.choice.spec).name)]
        parts = {"dataset": dataset, "attack": attack, "defense": defense}
        return {name: content_key(part)[:12] for name, part in parts.items()}

    def title(self) -> str:
        """The cell in words, for the plan and messages."""
        return f"{self.attack.choice.title} × {self.defense.choice.spec} × {self.victim}, seed {self.seed}"


def _foreign(registry: Registry[Any], name: str) -> list[str]:
    """The source of a plugin's class, which has no version that is raised by hand; nothing for the suite's own."""
    source = source_of(registry.entry(name).factory)
    return [] if source is None else [source]


def _defense_code(name: str) -> list[str]:
    """The parts of an address that stand for a defense's code. Version 1 adds none, as it had no number at first."""
    version = DEFENSES.entry(name).factory.version
    return [*([f"version {version}"] if version > 1 else []), *_foreign(DEFENSES, name)]


def _code_within(attack: Attack) -> list[str]:
    """The parts of an address that stand for the code of the attack and the defenses used inside an attack."""
    within = defenses_within(attack).values()
    code = [line for parts in within for part in parts for line in _defense_code(part.name)]
    if isinstance(attack, Through):
        code += [*_foreign(ATTACKS, parse_spec(attack.attack).name), *_code_within(attack.inner)]
    return code


def defenses_within(attack: Attack) -> dict[str, list[Spec]]:
    """The defenses that an attack is crafted through, in their order, by the parameter that names them.

    Raises:
        UsageError: a plug-in's ``crafted_through`` names something else.
    """
    given: dict[str, Any] = {parameter: getattr(attack, parameter, 0) for parameter in type(attack).crafted_through}
    if wrong := [parameter for parameter, text in given.items() if not isinstance(text, str | None)]:
        name = ATTACKS.name_of(type(attack))
        raise UsageError(f"attack {name}: crafted_through names '{wrong[0]}', which is no parameter with a defense")
    return {
        parameter: [parse_spec(part) for part in split_outside_brackets(text, "+") if part]
        for parameter, text in given.items()
        if text
    }


def content_key(*parts: Any) -> str:
    """40 hex digits that name a piece of content by what it is made from."""
    return json_sha256(parts)[:40]
