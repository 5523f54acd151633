"""The state of a training: a model, its optimizer and its token table, to be kept in a checkpoint and put back."""

import copy
from typing import Any

import torch

from victims.clip import Clip
from victims.token_table import TokenTable


def training_state(model: Clip, optimizer: torch.optim.Optimizer, table: TokenTable) -> dict[str, Any]:
    """All that the next step depends on besides its own batch; tensors are not copied."""
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "table": table.state()}


def load_state(state: dict[str, Any], model: Clip, optimizer: torch.optim.Optimizer, table: TokenTable) -> None:
    """Continue from :func:`training_state`.

    Args:
        state: as saved.
        model: of the same architecture and with ``table`` as its :meth:`~victims.clip.Clip.token_table`.
        optimizer: over the model's parameters, with the same groups.
        table: changed in place.
    """
    table.restore(state["table"], optimizer)
    model.load_state_dict(state["model"])
    # The state may be mapped from a file, which the optimizer would write to.
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
