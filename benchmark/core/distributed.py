"""Data-parallel training: several processes, started by ``torchrun``, train one model with one device each.

Every process holds all weights and makes the same random draws, but runs only its own shard of a batch through the
model. Features are gathered, so each process computes the loss of the whole batch, and gradients are summed over the
shards. Up to rounding, the result is that of a single process with the same batch, unless an attack is crafted through
a defense that draws at random: each process then draws for its own shard. Batches of noise, which are independent of
each other, go to one process each. In a single process every method here does nothing.
"""

import os
import traceback
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
_SECONDS_TO_AGREE = 60.0
_HIGHEST_PORT = 65_535
_agreement: dist.ProcessGroup | None = None  # all processes, with a short timeout: some may be waiting in another call


@dataclass(frozen=True)
class Processes:
    """This process's place in the process group.

    Attributes:
        rank: the number of this process, from 0; rank 0 writes files and prints.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> "Processes":
        """The current process group; outside :func:`process_group`, a single process."""
        return cls(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else cls()

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def shard(self, rows: int) -> slice:
        """The rows of a batch that this process runs through the model.

        Raises:
            UsageError: the number of rows is not divisible by the number of processes.
        """
        if rows % self.size:
            raise UsageError(f"a batch of {rows} rows is not divisible by {self.size} processes")
        length = rows // self.size
        return slice(self.rank * length, (self.rank + 1) * length)

    def gather(self, features: torch.Tensor) -> torch.Tensor:
        """Gather the features of all shards, in order; each process gets the gradient of its own shard."""
        return features if self.size == 1 else _Gather.apply(features, self)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter], *, replicated: nn.Parameter) -> None:
        """Sum each gradient over the shards.

        Args:
            parameters: all trained parameters.
            replicated: the parameter that acts on the gathered features (the logit scale). Every process already has
                its full gradient, so it is averaged instead of summed.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        for gradient, piece in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(piece.view_as(gradient))
        if replicated.grad is not None:
            replicated.grad /= self.size

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean of a value over all processes."""
        if self.size > 1:
            dist.all_reduce(value)
        return value / self.size

    def total(self, number: float, device: torch.device) -> float:
        """The sum of a number over all processes; ``device`` is this process's."""
        if self.size == 1:
            return number
        summed = torch.tensor(number, dtype=torch.float64, device=device)
        dist.all_reduce(summed)
        return float(summed)

    def broadcast(self, owner: int, rows: torch.Tensor) -> torch.Tensor:
        """Broadcast a tensor (…) from rank ``owner``; the other ranks pass one of the same shape and dtype."""
        if self.size > 1:
            rows = rows.contiguous()
            dist.broadcast(rows, owner)
        return rows

    def broadcast_object(self, value: Value) -> Value:
        """Broadcast an object from rank 0."""
        if self.size == 1:
            return value
        objects: list[Any] = [value]
        dist.broadcast_object_list(objects, 0)
        return objects[0]

    def failed_alike(self, error: BaseException) -> bool:
        """Whether all processes have met this error in the same line, so that they can go on together.

        False if a process does not answer within a minute: it has not met the error, and waits in another call.
        """
        if self.size == 1:
            return True
        if _agreement is None:
            return False
        line = traceback.extract_tb(error.__traceback__)[-1]
        met: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(met, (type(error).__name__, line.filename, line.lineno), _agreement)
        except RuntimeError:
            return False
        return len(set(met)) == 1

    def all_equal(self, value: object) -> bool:
        """Whether all processes have the same value; each waits for the others."""
        values: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return all(other == value for other in values)

    @contextmanager
    def rank0_first(self) -> Iterator[None]:
        """Run the block on rank 0 first, then on all other ranks, which find the files that rank 0 has written."""
        if self.size > 1 and not self.is_first:
            dist.barrier()
        yield
        if self.size > 1 and self.is_first:
            dist.barrier()

    def synchronised(self, model: nn.Module, device: torch.device) -> nn.Module:
        """The model with its batch norms replaced by synchronised ones, whose statistics cover the whole batch.

        Raises:
            UsageError: the model has batch norms and runs on CPUs, where they cannot be synchronised.
        """
        if self.size == 1 or not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules()):
            return model
        if device.type != "cuda":
            raise UsageError("batch norm cannot be synchronised on CPUs: train a ViT, or use one process")
        # Not torch's own conversion: it drops the activation of norms that contain one, as timm's do.
        from timm.layers import convert_sync_batchnorm

        return cast(nn.Module, convert_sync_batchnorm(model))


class _Gather(torch.autograd.Function):
    """Gather the rows of all processes. Each computes the full loss, so the gradient of its own rows is complete."""

    @staticmethod
    def forward(ctx: Any, features: torch.Tensor, processes: Processes) -> torch.Tensor:
        ctx.rows = slice(processes.rank * len(features), (processes.rank + 1) * len(features))
        parts = [torch.empty_like(features) for _ in range(processes.size)]
        dist.all_gather(parts, features.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradients[0][ctx.rows], None


def started_processes() -> int:
    """How many processes ``torchrun`` has started; 1 without it.

    Raises:
        UsageError: the environment variable that says so holds no number.
    """
    text = os.environ.get("WORLD_SIZE") or "1"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"the environment variable WORLD_SIZE is '{text}', not a number of processes")
    return int(text)


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Join the process group if ``torchrun`` started several processes; yields this process's device.

    A block nested in such a block reuses the group: if a group is destroyed and set up again, processes may find the
    stale entries of the first one in ``torchrun``'s store.

    Raises:
        UsageError: this machine has fewer CUDA devices than processes, or the variables that ``torchrun`` sets are
            missing or out of range.
    """
    if (size := started_processes()) == 1:
        yield device
        return
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise UsageError(f"WORLD_SIZE is {size}, but {name} is not set: start with torchrun, or unset WORLD_SIZE")
        if name != "MASTER_ADDR" and not os.environ[name].isdecimal():
            raise UsageError(f"{name} is '{os.environ[name]}', not a whole number from 0 up")
    if int(os.environ["MASTER_PORT"]) > _HIGHEST_PORT:
        raise UsageError(f"MASTER_PORT is {os.environ['MASTER_PORT']}, above {_HIGHEST_PORT}")
    if (rank := int(os.environ["RANK"])) >= size:
        raise UsageError(f"RANK is {rank}, but WORLD_SIZE is {size}: ranks count from 0")
    if device.type == "cuda":
        number, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if number >= devices:
            raise UsageError(f"--nproc-per-node asks for more processes than this machine has CUDA devices ({devices})")
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield device
        return
    # The timeout is long because rank 0 may decode a data set, or wait for another run's poison, for hours. If one
    # process dies, torchrun ends all.
    # Unless it is told the device, NCCL's first barrier takes the GPU of the rank's number, which may not be this one.
    bound = device if device.type == "cuda" else None
    dist.init_process_group("gloo" if bound is None else "nccl", timeout=timedelta(days=30), device_id=bound)
    global _agreement
    try:
        _agreement = dist.new_group(backend="gloo", timeout=timedelta(seconds=_SECONDS_TO_AGREE))
    except RuntimeError:  # gloo finds no way from one machine to another: then every error ends the run
        _agreement = None
    yield device
    # Not after an error: all processes must take part in this call, and the others are waiting elsewhere.
    dist.destroy_process_group()
