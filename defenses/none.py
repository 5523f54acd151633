"""No defense: the plain victim."""

from defenses.base import DEFENSES, Defense


@DEFENSES.register("none", order=0)
class NoDefense(Defense):
    """Plain training: every hook is the identity."""

    changes_nothing = True

    def describe(self) -> str:
        """What it does, in words."""
        return "plain training"
