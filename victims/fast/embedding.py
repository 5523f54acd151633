"""Training the token embeddings that occur, and them alone, with the result of training them all.

CLIP's table has 49,408 rows, a set of captions some thousands of tokens. A row that never occurred has no gradient and
no momentum: a step of AdamW only lets it decay, which can be made up for at any time. For a small model on a CPU the
idle rows otherwise cost a tenth of every step.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from victims.token_table import TokenTable


class ActiveEmbedding(nn.Module, TokenTable):
    """Stands in for an ``nn.Embedding`` while it is trained; ids must be admitted before they are looked up.

    Attributes:
        weight: (A, W), the rows of the admitted ids in the order of the ids: what the optimizer sees.
    """

    def __init__(self, embedding: nn.Embedding, ids: torch.Tensor) -> None:
        super().__init__()
        # Not a submodule: its weight is not to be trained beside ours.
        self._all = [embedding.weight.detach()]
        self._decay = 1.0
        self.register_buffer("_place", torch.empty(0, dtype=torch.long), persistent=False)
        self._place: torch.Tensor
        self._set_ids(ids.unique())
        self.weight = nn.Parameter(self._all[0][self._ids].clone())

    @classmethod
    def put_into(cls, tower: Any, ids: torch.Tensor) -> "ActiveEmbedding":
        """Replace a text tower's token embedding; :meth:`take_out` puts it back.

        Args:
            tower: an open_clip ``CLIP`` or ``TextTransformer``.
            ids: int64 of any shape, the first ids to admit.
        """
        # 0 is the padding, which towers without a causal mask look at.
        with_padding = torch.cat([ids.flatten(), ids.new_zeros(1)])
        tower.token_embedding = cls(tower.token_embedding, with_padding.to(tower.token_embedding.weight.device))
        return tower.token_embedding

    def take_out(self, tower: Any) -> None:
        """Put the whole, trained embedding back into the tower."""
        tower.token_embedding = self.whole()

    def follow(self, optimizer: torch.optim.Optimizer) -> None:
        """From now on, record the weight decay that rows outside ``weight`` miss; it is applied to them later.

        Args:
            optimizer: the optimizer of ``weight``; call this method once.
        """

        # Takes the optimizer from the call: a hook that held it would keep it, its weights and their moments, on a GPU
        # gigabytes, until Python looks for cycles.
        def decay(stepped: torch.optim.Optimizer, *_: Any) -> None:
            if self.weight.grad is None:
                return  # an optimizer leaves a parameter alone that no loss depends on
            group = next(group for group in stepped.param_groups if any(p is self.weight for p in group["params"]))
            self._decay *= 1 - group["lr"] * group["weight_decay"]

        optimizer.register_step_post_hook(decay)

    def admit(self, ids: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
        """Take further ids in; the optimizer's moments of their rows start at zero, as they would have stayed.

        Args:
            ids: int64 of any shape.
            optimizer: the optimizer of ``weight``.
        """
        known = self._ids
        ids = torch.cat([known, ids.to(known.device).flatten()]).unique()
        if len(ids) == len(known):
            return
        table = self._settled()
        self._set_ids(ids)
        place = self._place[known]
        # A new parameter, because autograd graphs that still exist expect the old parameter to keep its shape.
        old, self.weight = self.weight, nn.Parameter(table[ids])
        for group in optimizer.param_groups:
            group["params"] = [self.weight if p is old else p for p in group["params"]]
        state = optimizer.state.pop(old, {})
        for name, value in state.items():
            # Muon keeps a flag among the moments.
            if isinstance(value, torch.Tensor) and value.shape == old.shape:
                grown = value.new_zeros(self.weight.shape)
                grown[place] = value
                state[name] = grown
        optimizer.state[self.weight] = state

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Embeddings (…, W) of tokens (…).

        Raises:
            IndexError: an id that was not admitted.
        """
        return F.embedding(self._place[tokens], self.weight)

    def state(self) -> dict[str, Any]:
        """Admitted ids (A,), all rows (V, W) and the decay still owed to those outside, for :meth:`restore`."""
        return {"ids": self._ids, "all": self._all[0], "decay": self._decay}

    def restore(self, state: dict[str, Any], optimizer: torch.optim.Optimizer) -> None:
        """Take over a :meth:`state`; the values of ``weight`` and its moments are the owner's to put back."""
        self.admit(state["ids"], optimizer)
        self._all[0].copy_(state["all"])
        self._decay = float(state["decay"])

    def whole(self) -> nn.Embedding:
        """The embedding of all ids as it stands now."""
        return nn.Embedding.from_pretrained(self._settled().clone(), freeze=False)

    def _settled(self) -> torch.Tensor:
        """All rows as they stand now."""
        table = self._all[0]
        table.mul_(self._decay)
        table[self._ids] = self.weight.detach()
        self._decay = 1.0
        return table

    def _set_ids(self, ids: torch.Tensor) -> None:
        self._ids = ids
        self._place = torch.full((len(self._all[0]),), -1, dtype=torch.long, device=ids.device)
        self._place[ids] = torch.arange(len(ids), device=ids.device)
