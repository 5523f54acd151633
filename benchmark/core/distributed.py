"""Several processes that train one model, one device each, as ``torchrun`` starts them.

Every process holds all weights and sees every batch's rows and random draws, but puts only its own part of a batch
through the model. Features are gathered, so each computes the loss of the whole batch; the gradients of the parts are
added up. So the result is that of one process with the same batch, to rounding. Batches of noise, which do not depend
on each other, are dealt out whole. One process alone takes the same path: every method here then does nothing.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import nn

from benchmark.core.errors import UsageError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those that work together.

    Attributes:
        rank: its number; the first (0) speaks for all.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """Those that work together now; one, unless :func:`process_group`."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def shard(self, rows: int) -> slice:
        """The rows of a batch that this process puts through the model.

        Raises:
            UsageError: the rows cannot be parted evenly.
        """
        if rows % self.size:
            raise UsageError(f"a batch of {rows} rows cannot be parted evenly among {self.size} processes")
        own = rows // self.size
        return slice(self.rank * own, (self.rank + 1) * own)

    def gather(self, features: torch.Tensor) -> torch.Tensor:
        """The features of the whole batch, in order, from those of the parts; the gradient reaches the own part."""
        return features if self.size == 1 else _Gather.apply(features, self)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter], *, whole: nn.Parameter) -> None:
        """Make each gradient the sum over the parts.

        Args:
            parameters: all that are trained.
            whole: the one that acts behind the gathering (the logit scale): every process has all of its gradient.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        together = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(together)
        for gradient, piece in zip(gradients, together.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))
        if whole.grad is not None:
            whole.grad /= self.size

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a value over the processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value / self.size

    def total(self, number: float, device: torch.device) -> float:
        """The sum of a number over the processes, which compute on such a device."""
        if self.size == 1:
            return number
        together = torch.tensor(number, dtype=torch.float64, device=device)
        dist.all_reduce(together)
        return float(together)

    def broadcast(self, owner: int, rows: torch.Tensor) -> torch.Tensor:
        """The owner's (…) tensor, on all; the others give one of the same shape and type."""
        if self.size > 1:
            rows = rows.contiguous()
            dist.broadcast(rows, owner)
        return rows

    def broadcast_object(self, value: Value) -> Value:
        """What the first process says, on all."""
        if self.size == 1:
            return value
        said: list[Any] = [value]
        dist.broadcast_object_list(said, 0)
        return said[0]

    @contextmanager
    def rank0_first(self) -> Iterator[None]:
        """The first runs the block, then all the others: what it leaves in files is there for them."""
        if self.size > 1 and not self.is_first:
            dist.barrier()
        yield
        if self.size > 1 and self.is_first:
            dist.barrier()

    def synchronised(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with batch norms that take their statistics over the whole batch.

        Raises:
            UsageError: it has batch norms and computes on CPUs, where they cannot.
        """
        if self.size == 1 or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
            return model
        if device.type != "cuda":
            raise UsageError("batch norm cannot be shared among CPU processes: train a ViT, or in one process")
        # Not torch's own: of a norm with an activation in it, as timm has them, it drops the activation.
        from timm.layers import convert_sync_batchnorm

        return cast(nn.Module, convert_sync_batchnorm(model))


class _Gather(torch.autograd.Function):
    """All processes' rows; each has the loss of all, so the gradient of its own rows is whole as it is."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, processes: Processes) -> torch.Tensor:
        ctx.own = slice(processes.rank * len(features), (processes.rank + 1) * len(features))
        parts = [torch.empty_like(features) for _ in range(processes.size)]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0][ctx.own], None


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the processes that ``torchrun`` has started, if it has; yields this process's device.

    Blocks within such a block join no more: processes that part and meet again may meet at their first meeting's place,
    for what the first wrote there outlives it.

    Raises:
        UsageError: there are more processes on this machine than CUDA devices.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    if device.type == "cuda":
        number, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= devices:
            raise UsageError(f"--nproc-per-node asks for more processes than the {devices} CUDA devices here")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield device
        return
    # The first may decode a data set, or wait for another run's poison, for hours; torchrun ends all if one dies.
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=timedelta(days=30))
    yield device
    # Not after an error: to part, all must be there, and the others wait for this one elsewhere.
    dist.destroy_process_group()
