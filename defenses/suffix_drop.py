"""Drop the last words of every caption."""

from dataclasses import dataclass

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("suffix-drop", groups=("adaptive",), order=183)
@dataclass(frozen=True)
class SuffixDrop(Defense):
    """Drop the last n words of every caption, as ``prefix-drop`` drops the first; the first word always stays.

    Ours, made against MEM with its trigger at the end (``place=end``).

    Args:
        n: words to drop; by default the length of the paper's usual trigger (MEM-3).
    """

    n: int = ranged(3, 1, 1000)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions without their last n words, as many as were given; an empty one stays empty."""
        # Of n + 1 pieces the first is the rest of the caption; of fewer, it is the first word.
        return [caption.rsplit(maxsplit=self.n)[0] if caption.strip() else caption for caption in captions]

    def describe(self) -> str:
        """The strength in words."""
        return f"last {self.n} words dropped"
