"""What a rule for a layer is: a hook on its forward, and the per-example gradients that follow from it.

For a layer that is linear in its weight, a record's gradient is a sum over positions of products of an activation
(the layer's input) and an output gradient (of the loss by the layer's output). The usual backward pass makes both. So
a record's norm can be computed without its gradient (the ghost norm), and the sum of clipped gradients with one
product.

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
"""Parameters, each with a tensor of its own: all records' gradients [rows, *its shape], or a sum of its shape."""


class GradientNorms(ABC):
    """The norms, secret, of `rows` records' gradients, whether the gradients are instantiated or not."""

    @cached_property
    def squared_norms(self) -> torch.Tensor:
        """The squared L2 norm of each record's gradient, float64 [rows].

        It may be off, and even be zero, by a rounding error relative to `squared_norm_bounds`.
        """
        return self._squared_norms()

    @abstractmethod
    def _squared_norms(self) -> torch.Tensor:
        """Return `squared_norms`."""

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """An upper bound of the squared norm, float64 [rows], to which the rounding of a weighted sum is relative.

        By default it is the squared norm itself, which holds where a record's gradient is summed over positions
        before records are summed. Where one sum is over both, a record's terms may cancel: then it is the square of
        the sum over positions of |activation| |output gradient|, or more.
        """
        return self.squared_norms


class PerExampleGradients(GradientNorms):
    """The gradients of one layer's parameters for each of the `rows` records of a pass, instantiated or not.

    Complete after the backward pass. Parameters that are not trained have no part in it.
    """

    @abstractmethod
    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return each parameter with the sum of the records' gradients times `factors` [rows], of its shape.

        A record of factor zero adds nothing, even if its gradient is not finite.
        """

    @property
    def instantiated(self) -> Pairs:
        """Each parameter with all records' gradients [rows, *its shape]: all, or none, which is the default."""
        return ()

    def partial_sums(self, factors: torch.Tensor) -> list[PartialSum]:
        """Return the weighted sum as partial sums, to be added up with those of other layers."""
        return [((parameter,), part) for parameter, part in self.weighted_sum(factors)]


class LayerRule(ABC):
    """The rule for one kind of layer, bound to one layer of a network: it stands in for the layer's forward.

    To add a layer, write one file beside this one, with a subclass that names the layer's classes in `kinds`: the
    registry finds it there. Where the layer takes one tensor, subclass `ActivationRule`, and give `detached_forward`
    and `per_example_gradients`; leave the rest to the defaults. Its test, in tests/client/clipping/layers/, calls
    `check_layer`, which compares sums with a loop over single records. (A server may not import this folder: it knows
    the layers that have a rule from BOOK_KEPT in models/trial.py, and a test says so where that lacks one.)
    """

    kinds: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Classes of layers that the rule is for, exactly: a subclass may do something else in its forward."""

    def __init__(self, layer: Any) -> None:
        """Make the rule for a layer.

        Raises:
            ClippingError: the rule does not cover one of the layer's options.
        """
        self.layer, self.dtype = layer, torch.float32
        self.gradients = list[PerExampleGradients]()
        """One for each time that the layer was used since this was last emptied."""
        self.check()

    def check(self) -> None:  # noqa: B027
        """Refuse options of the layer that the rule does not cover; by default it covers all.

        Raises:
            ClippingError: the layer has such an option.
        """

    def install(self) -> None:
        """Put the rule's forward in place of the layer's own."""
        self.dtype = next(self.layer.parameters(recurse=False)).dtype
        self.layer.__dict__["forward"] = self.forward

    def remove(self) -> None:
        """Give the layer its own forward back."""
        self.layer.__dict__.pop("forward", None)

    @abstractmethod
    def forward(self, *inputs: Any) -> Any:
        """Return what the layer returns. The backward pass then adds to `gradients`."""


class ActivationRule(LayerRule):
    """A rule for a layer of one input that needs its activation and its output gradient, and nothing else."""

    @abstractmethod
    def detached_forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layer's output and its activation, detached.

        The output comes from detached parameters, so that autograd makes no weight gradient.
        """

    @abstractmethod
    def per_example_gradients(self, activation: torch.Tensor, output_gradient: torch.Tensor) -> PerExampleGradients:
        """Return the gradients of the layer's parameters, from tensors [rows, ...] in the parameters' dtype."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the layer's output; the backward pass then captures its gradient.

        Raises:
            ClippingError: in the backward pass, if the activation was changed in place since.
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
        """Return numbers of a pass in a narrower dtype in the parameters' dtype; tokens stay as they are."""
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor


class CaptureGradient(torch.autograd.Function):
    """The identity, whose backward hands the output gradient to a function. Later layers may work in place on it."""

    @staticmethod
    def forward(ctx: Any, capture: Callable[[torch.Tensor], None], anchor: torch.Tensor, output: torch.Tensor) -> Any:
        """Return the output itself. `anchor` requires a gradient, so that autograd calls `backward` in any case."""
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
    """Return a parameter that autograd does not see, or None where a layer has none."""
    return None if parameter is None else parameter.detach()
