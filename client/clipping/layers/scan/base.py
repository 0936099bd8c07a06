"""The interface of a time loop, and the functions that the three loops share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True)
class Weights:
    """One layer and direction: w_ih [gates, features], w_hh [gates, units], b_ih and b_hh [gates] or None."""

    w_ih: torch.Tensor
    w_hh: torch.Tensor
    b_ih: torch.Tensor | None = None
    b_hh: torch.Tensor | None = None

    def both_biases(self) -> torch.Tensor | None:
        """Return b_ih + b_hh, or None without biases."""
        return None if self.b_ih is None or self.b_hh is None else self.b_ih + self.b_hh


@dataclass(frozen=True)
class GateGradients:
    """The gradients of the inputs of the gates' nonlinearities, [steps, rows, gates], and of the start states.

    `of_inputs` is the gradient of W_ih x + b_ih, `of_states` the gradient of W_hh h + b_hh: the same tensor if both
    are equal. `of_start` holds the gradients [rows, units] of the start states and, for an LSTM, of the start cells.
    """

    of_inputs: torch.Tensor
    of_states: torch.Tensor
    of_start: list[torch.Tensor]


class Scan(Protocol):
    """A time loop after its forward pass: `states` [1 + steps, rows, units] begin with the start state."""

    states: torch.Tensor

    @property
    def ends(self) -> list[torch.Tensor]:
        """The last states and, for an LSTM, the last cells, each [rows, units]."""
        ...

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None: ...

    def gate_gradients(self, upstream: torch.Tensor | None, of_ends: Sequence[torch.Tensor | None]) -> GateGradients:
        """Return the backward pass, from d loss / d states [steps, rows, units] and d loss / d ends [rows, units]."""
        ...


def gradients_from_outside(
    like: torch.Tensor, upstream: torch.Tensor | None, of_end: torch.Tensor | None
) -> torch.Tensor:
    """Return d loss / d states without the part through later states, in a new tensor [1 + steps, rows, units].

    `upstream` [steps, rows, units] is the gradient of the layer's outputs, `of_end` [rows, units] the gradient of the
    last state.
    """
    totals = torch.zeros_like(like)
    if upstream is not None:
        totals[1:] = upstream
    if of_end is not None:
        totals[-1].add_(of_end)
    return totals


def sigmoid_slope(gradient: torch.Tensor, value: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return gradient * value * (1 - value), the gradient of a sigmoid's input if its output is `value`."""
    slope = torch.addcmul(value, value, value, value=-1, out=out)
    return slope.mul_(gradient)


def tanh_slope(gradient: torch.Tensor, value: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return gradient * (1 - value^2), the gradient of a tanh's input if its output is `value`."""
    return torch.addcmul(gradient, gradient * value, value, value=-1, out=out)
