"""What the three time loops share."""

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
        """Return b_ih + b_hh, or None where there are none."""
        return None if self.b_ih is None or self.b_hh is None else self.b_ih + self.b_hh


@dataclass(frozen=True)
class Gates:
    """d loss / d gates [steps, rows, gates], as the inputs' weights see them and as the states' do, one tensor where
    that is the same, and d loss / d start [rows, units], of the states and then, if there are any, of the cells."""

    of_inputs: torch.Tensor
    of_states: torch.Tensor
    of_start: list[torch.Tensor]


class Scan(Protocol):
    """One run of a time loop: `states` [1 + steps, rows, units] from the start on; `ends`, the last state and, if
    there are any, the last cells, [rows, units]."""

    states: torch.Tensor

    @property
    def ends(self) -> list[torch.Tensor]:
        """Return what the loop ends with."""
        ...

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None: ...

    def gates(self, upstream: torch.Tensor | None, of_ends: Sequence[torch.Tensor | None]) -> Gates:
        """Return what reaches the gates, from d loss / d states [steps, rows, units] and d loss / d ends."""
        ...


def received(like: torch.Tensor, upstream: torch.Tensor | None, of_end: torch.Tensor | None) -> torch.Tensor:
    """Return d loss / d states as it comes from outside, from the start on, in a new tensor [1 + steps, rows, units].

    `upstream` is that of all states after the start, `of_end` comes to that of the last.
    """
    totals = torch.zeros_like(like)
    if upstream is not None:
        totals[1:] = upstream
    if of_end is not None:
        totals[-1].add_(of_end)
    return totals


def sigmoid_slope(gradient: torch.Tensor, value: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return gradient * value * (1 - value), what passes back through a sigmoid that gave `value`."""
    slope = torch.addcmul(value, value, value, value=-1, out=out)
    return slope.mul_(gradient)


def tanh_slope(gradient: torch.Tensor, value: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """Return gradient * (1 - value^2), what passes back through a tanh that gave `value`."""
    return torch.addcmul(gradient, gradient * value, value, value=-1, out=out)
