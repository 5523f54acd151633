"""A device of its own, ``away``, that computes on the CPU but whose tensors do not mix with the CPU's.

Stands in for a GPU where there is none: an operation on tensors of both devices fails as it does with one, and there
is no way to numpy but ``.cpu()``. PyTorch knows the device as a backend written in Python (its ``PrivateUse1``), and
takes it only before the process computes its first gradient: import this first of all.
"""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "away"
# With a GPU, too, its tensors are copied from and to the CPU's, and the CPU's may hold the places to look at in them.
_COPY = "aten::copy_"
_LOOK = {"aten::index", "aten::index_put_", "aten::_index_put_impl_"}


class AwayTensor(torch.Tensor):
    """A tensor on the device.

    Attributes:
        near: the CPU's tensor that it is made of.
        has_double: whether there may be any in fp64.
    """

    near: torch.Tensor
    has_double = True

    def __new__(cls, near: torch.Tensor) -> "AwayTensor":
        if near.dtype == torch.float64 and not cls.has_double:
            raise TypeError(f"{NAME} has no fp64")
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
            dtype=near.dtype,
            device=torch.device(NAME, 0),
        )
        made.near = near
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        """By this PyTorch knows a wrapper; of others it changes a parameter's layout alone when a module moves."""
        return ["near"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], meta: None, size: Any, stride: Any) -> "AwayTensor":
        return AwayTensor(inner["near"])

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.near.__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"AwayTensor({self.near!r})"


class Away(TorchDispatchMode):
    """Inside, tensors can be made on the device and moved to it.

    Args:
        has_double: whether it has fp64; Apple's GPUs have not.
    """

    def __init__(self, has_double: bool = True) -> None:
        super().__init__()
        self.has_double = has_double

    def __enter__(self) -> "Away":
        AwayTensor.has_double = self.has_double
        super().__enter__()
        return self

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the CPU computes, on the device that was asked for, else on that of the tensors."""
    name, device = func.overloadpacket._qualified_op_name, kwargs.get("device")
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    away = any(isinstance(tensor, AwayTensor) for tensor in tensors)
    if device is not None:
        away = torch.device(device).type == NAME
    # Of the CPU's other tensors, numbers alone may take part.
    elif (
        away
        and not (name == _COPY or (name in _LOOK and isinstance(args[0], AwayTensor)))
        and any(leaf.ndim and not isinstance(leaf, AwayTensor) for leaf in tensors)
    ):
        raise RuntimeError(f"{name}: tensors of {NAME} and of the CPU")
    answer = func(*tree_map(_near, args), **tree_map(_near, kwargs))
    if not away or name == "aten::_local_scalar_dense":
        return answer
    answer = tree_map(lambda leaf: AwayTensor(leaf) if isinstance(leaf, torch.Tensor) else leaf, answer)
    return return_and_correct_aliasing(func, args, kwargs, answer)


def _near(leaf: Any) -> Any:
    if isinstance(leaf, AwayTensor):
        return leaf.near
    return torch.device("cpu") if isinstance(leaf, torch.device) else leaf


class _Backend:
    """What PyTorch asks of a device by its name."""

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def device_count() -> int:
        return 1

    @staticmethod
    def get_amp_supported_dtype() -> list[torch.dtype]:
        return [torch.bfloat16]

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        """Nothing is drawn on the device."""


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **_: Any) -> AwayTensor:
    return AwayTensor(torch.empty_strided(size, stride, dtype=dtype))


def _empty(size: Any, dtype: Any = None, memory_format: Any = None, **_: Any) -> AwayTensor:
    return AwayTensor(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    _near(target).copy_(_near(source))
    return target


_setup_privateuseone_for_python_backend(NAME, _Backend())
# Of these PyTorch does not ask the mode.
_library = torch.library.Library("aten", "IMPL")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
