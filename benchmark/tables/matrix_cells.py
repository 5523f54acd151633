"""The cells of the matrix attack × defense: which there are, which count, and which make a part without gaps."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from benchmark.tables.chance import near_chance
from benchmark.tables.gates import Verdict, is_uniform_noise, learned, stronger_than_noise, stronger_with_eps
from benchmark.tables.iqm import Run
from benchmark.tables.published import in_order
from benchmark.tables.selection import CLEAN, UNDEFENDED, Block
from benchmark.tables.shares import paired_runs
from benchmark.tables.table import EpochChoice, distinct_names

NO_DEFENSE = "No defense"
CLEAN_ROW = "Clean data"


@dataclass(frozen=True)
class MatrixCells:
    """The cells of one data set and victim. Attacks and defenses go by their specs, and have names of their own."""

    block: Block

    @cached_property
    def attacks(self) -> Mapping[str, str]:
        """Names of the attacks that met a defense, in the order of rows."""
        defended = {record.attack.spec for record in self.block.records if record.defense.spec != UNDEFENDED}
        return {spec: name for spec, name in self._names.items() if spec in defended}

    @cached_property
    def undefended(self) -> list[str]:
        """Names of the attacks that met no defense."""
        return [name for spec, name in self._names.items() if spec not in self.attacks]

    @cached_property
    def _names(self) -> Mapping[str, str]:
        found = self.block.attacks
        names = distinct_names([(CLEAN_ROW, CLEAN), *((attack.title, attack.spec) for attack in found)])[1:]
        return {attack.spec: name for attack, name in zip(found, names, strict=True)}

    @cached_property
    def defenses(self) -> Mapping[str, str]:
        """Names of the defenses, none first, in the order of columns."""
        found = {record.defense.spec: record.defense for record in self.block.records}
        specs = in_order({UNDEFENDED, *found})
        labels = {spec: defense.title for spec, defense in found.items()} | {UNDEFENDED: NO_DEFENSE}
        return dict(zip(specs, distinct_names([(labels[spec], spec) for spec in specs]), strict=True))

    @cached_property
    def noise_gate(self) -> Mapping[str, Verdict]:
        """By attack, whether it is stronger than noise."""
        return {attack.spec: stronger_than_noise(self.block, attack) for attack in self.block.attacks}

    @cached_property
    def eps_gate(self) -> Mapping[str, Verdict]:
        """By attack, whether it is stronger with ε."""
        return {attack.spec: stronger_with_eps(self.block, attack) for attack in self.block.attacks}

    @cached_property
    def loss_gate(self) -> Mapping[str, Verdict]:
        """By defense, whether clean victims learn under it."""
        return {spec: learned(self.block, spec) for spec in self.defenses}

    def counts(self, attack: str, defense: str) -> bool:
        """Whether no gate of a cell fails; clean data have only the defense's gate."""
        gates = (self.noise_gate.get(attack), self.eps_gate.get(attack), self.loss_gate[defense])
        return "fails" not in gates

    def runs(self, attack: str, defense: str, at: EpochChoice = "last") -> dict[int, Run]:
        """The runs of a cell, beside their clean victims, by seed."""
        return paired_runs(self.block.of(attack, defense), self.block.of(CLEAN, UNDEFENDED), at)

    @cached_property
    def competing(self) -> list[str]:
        """The attacks that count without a defense; none where even clean victims are near chance."""
        if near_chance(self.block.of(CLEAN, UNDEFENDED)):
            return []
        noise = {attack.spec for attack in self.block.attacks if is_uniform_noise(attack)}
        return [spec for spec in self.attacks if spec not in noise and self.counts(spec, UNDEFENDED)]

    @cached_property
    def complete_part(self) -> tuple[list[str], list[str]]:
        """Attacks and defenses of the part of the matrix that rankings are over: every cell in it has run and counts.

        Defenses are left out one by one, the defense that the fewest attacks met first. Of the parts without gaps that
        this gives, the largest is taken. Both lists are empty if no attack met a defense.
        """
        met = {
            defense: [
                attack for attack in self.competing if self.counts(attack, defense) and self.runs(attack, defense)
            ]
            for defense in self.defenses
        }
        others = sorted((spec for spec in met if spec != UNDEFENDED), key=lambda spec: -len(met[spec]))
        parts: list[tuple[list[str], list[str]]] = []
        for end in range(1, len(others) + 1):
            chosen = {UNDEFENDED, *others[:end]}
            attacks = [attack for attack in self.competing if all(attack in met[defense] for defense in chosen)]
            parts.append((attacks, [spec for spec in self.defenses if spec in chosen] if attacks else []))
        return max(parts, key=lambda part: len(part[0]) * len(part[1]), default=([], []))

    @cached_property
    def same_victims(self) -> list[list[str]]:
        """Defenses of :attr:`complete_part`, those together that left the same victims of all its attacks.

        Victims are the same if their scores are, in every epoch. A defense that changes nothing leaves undefended
        victims.
        """
        attacks, defenses = self.complete_part
        groups: dict[object, list[str]] = {}
        for defense in defenses:
            victims = [(attack, run.seed, run.epochs) for attack in attacks for run in self.block.of(attack, defense)]
            groups.setdefault(tuple(victims), []).append(defense)
        return list(groups.values())
