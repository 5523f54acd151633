"""The rules of the leaderboard, in one place; docs/submitting.md says them in words."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmark.tables.entries import Kind
from benchmark.tables.selection import CLEAN, UNDEFENDED


@dataclass(frozen=True)
class Rules:
    """What every submission has to have run, and how strong it may be.

    Attributes:
        version: raised with every change of what an entry is measured on, and kept in entries: those of different
            versions are not comparable.
        preset: data, victim, surrogate and budgets.
        least_seeds: least number of seeds. The seeds are 1, 2, 3 and so on, so that nobody chooses them.
        most_seeds: largest number of seeds. The check makes a data set for each.
        eps: largest bound on noise, in 1/255.
        trigger_tokens: most tokens that a trigger adds to a caption, of the 75 that CLIP reads. A word takes at least
            one token, in MEM exactly one, so a trigger has no more words than rare-prefix can drop.
        defenses: what an attack meets. Besides the group, defenses that know an attack: rare-prefix drops a trigger in
            front of captions, up to the longest that these rules allow, suffix-drop three words at their end, and
            tile-average averages out noise that repeats. The composition undoes a trigger and noise together. cleanclip
            knows no attack, and leaves most where a trigger is elsewhere.
        attacks: what a defense meets: noise, a trigger in front of captions, one spread over them, noise tied to words.
            With each goes the least percentage of the recall that it has to take undefended, so that nobody submits a
            defense against weak poisons: about half to four fifths of what it takes in our own records.
    """

    version: int = 6
    preset: str = "tiny"
    least_seeds: int = 3
    most_seeds: int = 12
    eps: int = 8
    trigger_tokens: int = 8
    defenses: str = "standard,rare-prefix,suffix-drop,tile-average,rare-prefix+tile-average,cleanclip"
    attacks: Mapping[str, float] = field(
        default_factory=lambda: {"em": 30, "mem3": 80, "mem3[place=spread]": 75, "em-wordwise": 60}
    )

    def settings(self, kind: Kind, spec: str) -> tuple[str, str]:
        """``--attack`` and ``--defense`` of the run that a submission holds; clean data meet every defense."""
        if kind == "attack":
            return f"{CLEAN},{spec}", self.defenses
        return ",".join([CLEAN, *self.attacks]), f"{UNDEFENDED},{spec}"


RULES = Rules()
