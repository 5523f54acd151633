"""How a text tower's token embedding is trained: as any other weight, or by a stand-in that knows a faster way."""

from typing import Any

import torch


class TokenTable:
    """A token embedding that the optimizer trains whole, as any other weight: there is nothing to do.

    A subclass that stands in for the embedding overrides all of these.
    """

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """Watch the optimizer's steps; called once, with the optimizer that trains the embedding."""

    def admit(self, ids: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Make ids known before they are looked up.

        Args:
            ids: int64 of any shape.
            optimizer: the one that trains the embedding.
        """

    def take_out(self, tower: Any) -> None:
        """Leave the tower with a whole, trained ``nn.Embedding``."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the model's and the optimizer's state."""
        return {}

    def restore(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """Take over a :meth:`state`; the weights and their moments are restored separately, afterwards."""
