"""The optimizers of victims and surrogates: AdamW, as in the paper, or Muon, which needs fewer steps."""

import inspect
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, Protocol
from unittest.mock import patch

import torch
from timm.optim import Muon
from timm.optim.muon import zeropower_via_newtonschulz
from torch.overrides import TorchFunctionMode

from benchmark.core.idle_cpus import beside, idle_cpus
from victims.clip import Clip
from victims.products import onednn_is_faster, product

_BIASES = "bias_table"  # of Swin's relative positions


class OptimizerSettings(Protocol):
    """What a recipe says of its optimizer, and an attack of its surrogates'."""

    @property
    def optimizer(self) -> Literal["adamw", "muon"]:
        """Which one."""

    @property
    def lr(self) -> float:
        """AdamW's peak learning rate."""

    @property
    def matrix_lr(self) -> float:
        """Muon's peak learning rate, for matrices; ``adamw`` does not use it."""

    @property
    def weight_decay(self) -> float:
        """AdamW's, on matrices and embeddings.

        Muon's matrices do not decay: its learning rate is some twenty times AdamW's, and so the decay would be.
        """


def make_optimizer(
    model: Clip, settings: OptimizerSettings, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    """An optimizer over all trainable weights of a model.

    ``muon`` orthogonalises the momentum of each matrix (Jordan et al. 2024, "Muon: An optimizer for hidden layers in
    neural networks"; timm's implementation, filters flattened to matrices). Everything else stays with AdamW: norms,
    biases, embeddings and scales, and an attention pool's projections of the whole map, which are the largest matrices
    of a small ResNet: to orthogonalise them would cost more than the rest of the step.

    Args:
        model: a victim or a surrogate, in place; call :meth:`~victims.clip.Clip.token_table` before.
        settings: which optimizer, and its rates.
        betas: AdamW's decays of the moments.

    Returns:
        The optimizer; every group keeps its peak learning rate as ``initial_lr``, for :func:`set_lr`.
    """
    muon = settings.optimizer == "muon"
    groups = _groups(model, settings.weight_decay, settings.matrix_lr if muon else None)
    if muon:
        optimizer: torch.optim.Optimizer = _MuonInDtype(
            model.autocast_dtype or next(model.parameters()).dtype,
            groups,
            lr=settings.lr,
            betas=betas,
            eps=1e-8,
            momentum=0.9,
            ns_coefficients="original",
            adjust_lr_fn="original",
        )
    else:
        optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=betas, fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Set every group's learning rate to a share of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = share * group["initial_lr"]


class _MuonInDtype(Muon):
    """timm's Muon with the dtype of its matrix products given; its own is bf16, even on a device without fast bf16.

    On a CPU that has no instructions for bf16, those products took 87 % of a step of a small ResNet in fp32.
    """

    def __init__(self, dtype: torch.dtype, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._orthogonalised = partial(zeropower_via_newtonschulz, dtype=dtype)

    def step(self, closure: Any = None) -> Any:
        """One step; see :class:`timm.optim.Muon`. An idle CPU does half of the parameters, which changes no digit."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        # The function has a parameter for the dtype, but timm does not pass one: hence the patch. super().step() is not
        # called, because torch wraps Muon.step once a plug-in has made a Muon of timm's own; the step's hooks would
        # then run twice.
        with torch.no_grad(), patch("timm.optim.muon.zeropower_via_newtonschulz", self._orthogonalised):
            mine, *others = _halves(self.param_groups) if idle_cpus() else [self.param_groups]
            others_done = [beside(partial(self._step_of, half)) for half in others]
            try:
                self._step_of(mine)
            finally:  # else another half might go on without the patch
                for done in others_done:
                    done()
        return loss

    def _step_of(self, groups: list[dict[str, Any]]) -> None:
        optimizer = SimpleNamespace(defaults=self.defaults, state=self.state, param_groups=groups)
        with _Products() if onednn_is_faster() else nullcontext():
            inspect.unwrap(Muon.step)(optimizer)


class _Products(TorchFunctionMode):
    """Lets timm multiply by :func:`victims.products.product`."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        """As torch does, but for fp32 ``addmm``: out = beta · added + alpha · first × second."""
        options = options or {}
        if function is not torch.addmm or arguments[0].dtype != torch.float32 or arguments[0].device.type != "cpu":
            return function(*arguments, **options)
        added, first, second = arguments
        found = product(first, second).mul_(options["alpha"])
        if options["beta"]:
            found.add_(added, alpha=options["beta"])
        return options["out"].copy_(found)


def _halves(groups: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Split the parameters into two halves that take about equally long; each half has all groups."""
    costs = {weight: _cost(weight, group["use_muon"]) for group in groups for weight in group["params"]}
    first: set[torch.Tensor] = set()
    excess = 0
    for weight in sorted(costs, key=costs.__getitem__, reverse=True):
        if excess <= 0:
            first.add(weight)
        excess += costs[weight] if excess <= 0 else -costs[weight]
    return [
        [{**group, "params": [weight for weight in group["params"] if (weight in first) is mine]} for group in groups]
        for mine in (True, False)
    ]


def _cost(weight: torch.Tensor, orthogonalised: bool) -> int:
    """An estimate of how long the optimizer's step takes for a parameter, in an arbitrary unit."""
    # Muon multiplies a matrix with its own transpose: work in proportion to its values × its shorter side. AdamW only
    # reads and writes memory, which takes as long as Muon would with a shorter side of 8.
    return weight.numel() * (min(len(weight), weight[0].numel()) if orthogonalised else 8)


def _groups(model: Clip, weight_decay: float, matrix_lr: float | None) -> list[dict[str, Any]]:
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    matrices = [weight for name, weight in named if matrix_lr is not None and _is_hidden_matrix(name, weight)]
    taken = {id(weight) for weight in matrices}
    others = [(name, weight) for name, weight in named if id(weight) not in taken]
    decaying = [weight for name, weight in others if weight.ndim >= 2 and _BIASES not in name]
    groups: list[dict[str, Any]] = [
        {"params": decaying, "weight_decay": weight_decay},
        {"params": [weight for name, weight in others if weight.ndim < 2 or _BIASES in name], "weight_decay": 0.0},
    ]
    if matrix_lr is not None:
        groups = [{**group, "use_muon": False} for group in groups]
        groups.append({"params": matrices, "lr": matrix_lr, "weight_decay": 0.0, "use_muon": True, "nesterov": True})
    return groups


def _is_hidden_matrix(name: str, weight: torch.Tensor) -> bool:
    of_pool = "attnpool." in name and name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight"))
    # timm's towers have positions (1, N, C), tokens (1, 1, C) and scales (C, 1, 1).
    is_matrix = weight.ndim >= 2 and len(weight) > 1 and weight[0].numel() > 1
    return is_matrix and "embedding" not in name and _BIASES not in name and not of_pool
