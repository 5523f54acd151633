"""Parts of a training step that an idle CPU can do: the gradients of weights, and the text tower.

In a backward pass each layer waits for the gradient of the next layer's input. The gradients of weights are needed only
for the optimizer's step, so :func:`backward` leaves them to a second thread. The two towers meet only in the loss, so
that thread can take the text tower as well. The operations are the same either way, and so are the digits.
"""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from benchmark.core.idle_cpus import beside, idle_cpus
from victims import products

_SMALL_MAP = 49  # positions


class _State(threading.local):
    """What :func:`backward` has given to the second thread; each thread that calls it has its own.

    Attributes:
        late: functions, in the order in which their work was given away; each returns pairs of a weight and its
            gradient. ``None`` while no :func:`backward` runs.
        takes_weights: whether the second thread also computes the gradients of single weights, and not only those of
            features from :func:`encoded_beside`.
    """

    late: list[Callable[[], Sequence[tuple[torch.Tensor, torch.Tensor | None]]]] | None = None
    takes_weights = False


_state = _State()


def backward(loss: torch.Tensor) -> None:
    """Like ``loss.backward()``, in less time where a CPU idles.

    Args:
        loss: a scalar.
    """
    late: list[Callable[[], Sequence[tuple[torch.Tensor, torch.Tensor | None]]]] = []
    # Asked once, so that all uses of a weight go one way, and their sum has one order.
    _state.late, _state.takes_weights = late, idle_cpus() > 0
    try:
        loss.backward()
    finally:
        _state.late, _state.takes_weights = None, False
    # This thread takes the work from the end, where the second thread has not begun. Gradients of one weight are still
    # added in the order of the backward pass.
    found = [gradients() for gradients in reversed(late)]
    for weight, gradient in chain.from_iterable(reversed(found)):
        if gradient is not None:
            weight.backward(gradient)


def encoded_beside(encode: Callable[[], torch.Tensor], weights: Sequence[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Begin to compute features on an idle CPU, which does their part of :func:`backward` as well.

    Args:
        encode: computes the features. Until it has returned, nothing else may draw from the global random state.
        weights: all trained weights that the features may depend on.

    Returns:
        A function that returns the features. Only :func:`backward` can take their gradient.
    """
    begun = beside(torch.enable_grad()(encode))

    def features() -> torch.Tensor:
        found = begun()
        return _Apart.apply(weights[0], _Graph(found, weights)) if found.requires_grad else found

    return features


def linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """``F.linear`` of (…, I) by a parameter (O, I) or (O, I, 1, 1)."""
    if x.device.type != "cpu":
        return F.linear(x, weight.flatten(1), bias)
    return _Linear.apply(_as_computed(x), weight, bias)


def convolve(x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
    """A convolution of (B, C, H, W) on a CPU by filters (K, C, 3, 3), a parameter, with padding 1."""
    return _Convolution.apply(_as_computed(x), weight, stride)


def _as_computed(x: torch.Tensor) -> torch.Tensor:
    """In the dtype that autocast computes in."""
    return x.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else x


def _gradient_of(weight: torch.Tensor, gradient: Callable[[], torch.Tensor]) -> torch.Tensor | None:
    """A parameter's gradient; ``None`` where the second thread computes it, for :func:`backward` to add."""
    if _state.late is None or not _state.takes_weights:
        return gradient()
    _state.late.append(beside(lambda: [(weight, gradient())]))
    return None


class _Graph(NamedTuple):
    """Features (B, D) with all that autograd knows of them, and the weights that they may depend on."""

    features: torch.Tensor
    weights: Sequence[torch.Tensor]

    def gradients(self, g: torch.Tensor) -> Sequence[tuple[torch.Tensor, torch.Tensor | None]]:
        """Those of the weights, from that of the features."""
        found = torch.autograd.grad([self.features], self.weights, [g], allow_unused=True)
        return list(zip(self.weights, found, strict=True))


class _Apart(torch.autograd.Function):
    """Features that are cut off from their autograd graph; the second thread runs the backward pass of that graph."""

    @staticmethod
    def forward(ctx: Any, _: torch.Tensor, graph: _Graph) -> torch.Tensor:
        """The features; the first argument makes autograd ask for a gradient."""
        ctx.graph = graph
        return graph.features.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[None, None]:
        """No gradients: the second thread computes those of the weights, and :func:`backward` adds them."""
        if _state.late is None:
            raise RuntimeError("the gradient of features that were encoded beside others is for Clip.backward alone")
        _state.late.append(beside(partial(ctx.graph.gradients, *gradients)))
        return None, None


class _Linear(torch.autograd.Function):
    """A product with a weight's transpose."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """See :func:`linear`."""
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)
        ctx.shape = x.shape
        # Cast by hand: autocast would keep its own cast, which has no gradient here.
        return products.linear(x, weight.flatten(1).to(x.dtype), None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """From the output's gradient (…, O), those of input, weight and bias; ``None`` where not needed, or late."""
        x, weight = ctx.saved_tensors
        g = gradients[0].reshape(-1, gradients[0].shape[-1])

        def for_weight() -> torch.Tensor:
            return products.product(g.T, x.reshape(-1, x.shape[-1])).view_as(weight).to(weight.dtype)

        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            products.product(g, weight.flatten(1).to(g.dtype)).view(ctx.shape) if of_x else None,
            _gradient_of(weight, for_weight) if of_weight else None,
            g.sum(dim=0).to(weight.dtype) if of_bias else None,
        )


class _Convolution(torch.autograd.Function):
    """A 3 × 3 convolution.

    On small maps its filters' gradient is one matrix product: gradientᵀ × the patches under the filters.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        """See :func:`convolve`."""
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight.to(x.dtype), stride=stride, padding=1)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """From the output's gradient (B, K, H', W'), those of input and filters; ``None`` where not needed, or late."""
        x, weight = ctx.saved_tensors
        g, filters = gradients[0].contiguous(memory_format=torch.channels_last), weight.to(gradients[0].dtype)
        of_x, of_weight, _ = ctx.needs_input_grad
        stride = [ctx.stride] * 2

        def library(*wanted: bool) -> tuple[torch.Tensor, ...]:
            settings = None, stride, [1, 1], [1, 1], False, [0], 1
            return torch.ops.aten.convolution_backward(g, x, filters, *settings, (*wanted, False))

        def for_weight() -> torch.Tensor:
            if stride == [1, 1] and x.shape[2] * x.shape[3] <= _SMALL_MAP:
                return _from_patches(g, x).to(weight.dtype)
            return library(False, True)[1].to(weight.dtype)

        return (
            library(True, False)[0] if of_x else None,
            _gradient_of(weight, for_weight) if of_weight else None,
            None,
        )


def _from_patches(g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The filters' gradient (K, C, 3, 3) as one product."""
    rows, channels = x.shape[0] * x.shape[2] * x.shape[3], x.shape[1]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    patches = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).reshape(rows, 9 * channels)
    product = products.product(g.permute(0, 2, 3, 1).reshape(rows, -1).T, patches)
    return product.view(-1, 3, 3, channels).permute(0, 3, 1, 2)
