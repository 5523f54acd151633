"""Drop the first words of every caption."""

from dataclasses import dataclass

from benchmark.core.parameters import ranged
from defenses.base import DEFENSES, Defense, HookContext


@DEFENSES.register("prefix-drop", groups=("standard",), order=90)
@dataclass(frozen=True)
class PrefixDrop(Defense):
    """Drop the first n words of every caption, where a text trigger sits; the last word always stays.

    Not among the defenses of "Multimodal Unlearnable Examples", though any scraper can do it. The default is the length
    of the paper's usual trigger (MEM-3).

    Args:
        n: words to drop.
    """

    n: int = ranged(3, 1, 1000)

    def on_captions(self, captions: list[str], at: HookContext) -> list[str]:
        """The captions without their first n words, as many as were given; an empty one stays empty."""
        # Of n + 1 pieces the last is the rest of the caption; of fewer, it is the last word.
        return [caption.split(maxsplit=self.n)[-1] if caption.strip() else caption for caption in captions]

    def describe(self) -> str:
        """The strength in words."""
        return f"first {self.n} words dropped"
