"""The interface of a layer's rule: it replaces the layer's forward and returns the layer's per-example gradients.

For a layer that is linear in its weight, a record's gradient is a sum over positions of products of an activation
(the layer's input) and an output gradient (of the loss by the layer's output). The usual backward pass computes both.
So a record's norm can be computed without its gradient (the ghost norm), and the sum of clipped gradients by one
matrix product.

Reference: Bu et al. 2023, "Differentially Private Optimization on Large Model at Small Cost", the book-keeping
algorithm; Li et al. 2022, "Large Language Models Can Be Strong Differentially Private Learners", ghost clipping.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from ..accumulate import PartialSum
from ..errors import ClippingError

Pairs = Sequence[tuple[nn.Parameter, torch.Tensor]]
"""Parameters, each with a tensor: all records' gradients [rows, *its shape], or a sum of its shape."""


class GradientNorms(ABC):
    """The norms, secret, of `rows` records' gradients, whether the gradients are instantiated or not."""

    @cached_property
    def squared_norms(self) -> torch.Tensor:
        """The squared L2 norm of each record's gradient, float64 [rows].

        Its rounding error is relative to `squared_norm_bounds`, so that the value may even be zero.
        """
        return self._squared_norms()

    @abstractmethod
    def _squared_norms(self) -> torch.Tensor:
        """Return `squared_norms`."""

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """An upper bound of the squared norm, float64 [rows]: the rounding error of a weighted sum is relative to it.

        By default it is the squared norm itself, which is right if a record's gradient is summed over positions
        before the records are summed. If one sum runs over both, a record's terms may cancel. The bound is then at
        least the square of the sum over positions of |activation| |output gradient|.
        """
        return self.squared_norms


class PerExampleGradients(GradientNorms):
    """The gradients of one layer's parameters for each of the `rows` records of a pass, instantiated or not.

    They are complete after the backward pass. Parameters that are not trained are left out.
    """

    @abstractmethod
    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return each parameter with the sum of the records' gradients times `factors` [rows], of its shape.

        A record with factor zero adds nothing, even if its gradient is not finite.
        """

    @property
    def instantiated(self) -> Pairs:
        """Each parameter with all records' gradients [rows, *its shape], or an empty sequence (the default)."""
        return ()

    def partial_sums(self, factors: torch.Tensor) -> list[PartialSum]:
        """Return the weighted sum as partial sums, which are added to the partial sums of other layers."""
        return [((parameter,), part) for parameter, part in self.weighted_sum(factors)]


class LayerRule(ABC):
    """The rule for one kind of layer, bound to one layer of a network: it replaces the layer's forward.

    To add a layer, write one file in this folder, with a subclass that lists the layer's classes in `kinds`: the
    registry finds it there. If the layer takes one tensor, subclass `ActivationRule` and define `detached_forward`
    and `per_example_gradients`; the defaults do the rest. Its test, in tests/client/clipping/layers/, calls
    `check_layer`, which compares sums with a loop over single records. A rule for a layer of one's own, outside of
    this folder, is registered with `register_rule`. A layer without a rule is covered by `WholeRule`.
    """

    kinds: ClassVar[tuple[type[nn.Module], ...]] = ()
    """The classes of layers that the rule covers, without their subclasses, which may have another forward."""

    def __init__(self, layer: Any) -> None:
        """Create the rule for a layer.

        Raises:
            ClippingError: the rule does not cover one of the layer's options.
        """
        self.layer, self.dtype = layer, torch.float32
        self.gradients = list[PerExampleGradients]()
        """The gradients of each use of the layer since this list was last emptied."""
        self.check()

    def check(self) -> None:  # noqa: B027
        """Refuse options of the layer that the rule does not cover. By default a rule covers all options.

        Raises:
            ClippingError: the layer has such an option.
        """

    def install(self) -> None:
        """Replace the layer's own forward by the rule's."""
        self.dtype = next(self.layer.parameters(recurse=False)).dtype
        self.layer.__dict__["forward"] = self.forward

    def remove(self) -> None:
        """Restore the layer's own forward."""
        self.layer.__dict__.pop("forward", None)

    @abstractmethod
    def forward(self, *inputs: Any) -> Any:
        """Return the layer's output. The backward pass then appends to `gradients`."""


class ActivationRule(LayerRule):
    """A rule for a layer with one input, which needs only the activation and the output gradient."""

    @abstractmethod
    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer's output and its activation, detached.

        The output is computed from detached parameters, so that autograd computes no weight gradient.
        """

    @abstractmethod
    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of the layer's parameters, from tensors [rows, ...] in the parameters' dtype."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the layer's output. The backward pass then captures its gradient.

        Raises:
            ClippingError: in the backward pass, if the activation was changed in place after this call.
        """
        output, activation = self.detached_forward(inputs)
        if not torch.is_grad_enabled():
            return output
        version = activation._version

        def capture(gradient: torch.Tensor) -> None:
            if activation._version != version:
                raise ClippingError(
                    "a layer's inputs are changed in place after it", "leave out inplace, or the in-place operation"
                )
            self.gradients.append(self.per_example_gradients(self._widened(activation), self._widened(gradient)))

        anchor = output.new_empty(0, requires_grad=True)
        return CaptureGradient.apply(capture, anchor, output)  # type: ignore[no-any-return]

    def _widened(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return floating-point numbers in the parameters' dtype, and tokens unchanged."""
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


class CaptureGradient(torch.autograd.Function):
    """The identity, whose backward passes the output gradient to a function. Later layers may change its output."""

    @staticmethod
    def forward(ctx: Any, capture: Callable[[torch.Tensor], None], anchor: torch.Tensor, output: torch.Tensor) -> Any:
        """Return `output` itself. `anchor` requires a gradient, so autograd calls `backward` in any case."""
        ctx.capture = capture
        ctx.mark_dirty(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Capture the gradient and pass it on."""
        ctx.capture(gradient)
        return None, None, gradient if ctx.needs_input_grad[2] else None


def detached(parameter: torch.Tensor | None) -> torch.Tensor | None:
    """Return the parameter detached from autograd, or None if it is None."""
    return None if parameter is None else parameter.detach()
