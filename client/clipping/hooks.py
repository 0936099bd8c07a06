"""How a rule learns a layer's inputs and output gradients, and two forms that per-record gradients come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, reduce
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from .errors import ClippingError

BLOCK = 256
"""Numbers whose squares are summed in their own dtype; the sum over blocks is in float64."""


class Tap(torch.autograd.Function):
    """The identity, which tells the gradient that passes back through it; what follows may change it in place."""

    @staticmethod
    def forward(ctx: Any, tell: Callable[[torch.Tensor], None], start: torch.Tensor, output: torch.Tensor) -> Any:
        """Return the output itself. `start` requires a gradient, so that autograd comes by."""
        ctx.tell = tell
        ctx.mark_dirty(output)
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        """Tell the gradient and pass it on."""
        ctx.tell(gradient)
        return None, None, gradient if ctx.needs_input_grad[2] else None


class LayerWatch:
    """A layer whose forward, once installed, runs on detached parameters, so that autograd makes no weight gradient.

    `run` gives the layer's output and the inputs, detached, as a use must know them; `use` makes a use of the layer,
    these, and the output's gradient.
    """

    def __init__(
        self, layer: Any, run: Callable[..., tuple[torch.Tensor, torch.Tensor]], use: Callable[..., Any]
    ) -> None:
        self.layer, self.uses = layer, list[Any]()
        self._run, self._use, self._dtype = run, use, torch.float32

    def install(self) -> None:
        """Put our forward in place of the layer's own."""
        self._dtype = next(self.layer.parameters(recurse=False)).dtype
        self.layer.__dict__["forward"] = self._forward

    def remove(self) -> None:
        """Give the layer its own forward back."""
        self.layer.__dict__.pop("forward", None)

    def _forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output, kept = self._run(self.layer, inputs)
        if not torch.is_grad_enabled():
            return output
        version = kept._version

        def tell(gradient: torch.Tensor) -> None:
            if kept._version != version:
                raise ClippingError(
                    "a layer's inputs are changed in place after it", "leave inplace out where they are"
                )
            self.uses.append(self._use(self.layer, self._widened(kept), self._widened(gradient)))

        return Tap.apply(tell, output.new_empty(0, requires_grad=True), output)  # type: ignore[no-any-return]

    def _widened(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return numbers in the parameters' dtype, where a network's passes have another; tokens as they are."""
        return tensor.to(self._dtype) if tensor.is_floating_point() else tensor


Pairs = Sequence[tuple[nn.Parameter, torch.Tensor]]
"""Parameters, each with all records' gradients [rows, *its shape]."""


class Each:
    """Per-record gradients as they are."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = [(parameter, each) for parameter, each in pairs if parameter.requires_grad]

    @cached_property
    def _squares(self) -> torch.Tensor:
        return total([squared_norms(each) for _, each in self.pairs])

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._squares

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the squared norms, float64 [rows]: positions are summed already."""
        return self._squares

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return each parameter with the weighted sum."""
        return [(parameter, weighted(each, factors)) for parameter, each in self.pairs]


def total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of one or more tensors of one shape."""
    return reduce(torch.add, parts)


def squared_norms(each: torch.Tensor) -> torch.Tensor:
    """Return the squared L2 norm of every row of a tensor [rows, ...], float64 [rows].

    Numbers past 1e18 give infinity, and those below 1e-19 may count as zero: a factor is below 1e6 clip
    norms, so what they bring in unseen is below 1e-13 clip norms for each root of their number.
    """
    flat = each.flatten(1)
    whole = flat.shape[1] // BLOCK * BLOCK
    parts = [torch.linalg.vector_norm(flat[:, whole:], dim=1, dtype=torch.float64)] if whole < flat.shape[1] else []
    if whole:
        blocks = torch.linalg.vector_norm(flat[:, :whole].unflatten(1, (-1, BLOCK)), dim=2)
        parts.append(torch.linalg.vector_norm(blocks, dim=1, dtype=torch.float64))
    return total([part.square() for part in parts])


def weighted(each: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Return the sum over rows of a tensor [rows, *shape] times `factors` [rows], of that shape."""
    kept = finite(each, factors)
    return (factors.to(kept.dtype) @ kept.flatten(1)).view(kept.shape[1:])


def finite(rows: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Return a tensor [rows, ...] with zeros, whatever stood there, in the rows of factor zero."""
    if bool(factors.all()):
        return rows
    return torch.where(factors.view(-1, *[1] * (rows.dim() - 1)) != 0, rows, 0.0)
