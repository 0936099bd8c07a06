"""The time loop of nn.RNN, forward and backward, without weight gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from ...determinism import SMALL_PRODUCT
from .base import GateGradients, Weights, gradients_from_outside


class TanhScan:
    """States h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) of every step.

    Reference: Elman 1990; torch.nn.RNN.
    """

    relu = False

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None:
        """Run over inputs [steps, rows, features] from start states [rows, units]."""
        self.weights = weights
        self.states = inputs.new_empty(len(inputs) + 1, *start[0].shape)
        self.states[0] = start[0]
        self._feed(inputs)
        recurrent = weights.w_hh.t().contiguous()
        if _is_small(self.states):
            _run(self.states.numpy(), recurrent.numpy(), self.relu)
            return
        before, *steps = self.states.unbind()
        for state in steps:
            state.addmm_(before, recurrent)
            before = state.relu_() if self.relu else state.tanh_()

    def _feed(self, inputs: torch.Tensor) -> None:
        """Write W_ih x_t plus the biases of every step to the place of its state."""
        bias, into = self.weights.both_biases(), self.states[1:].flatten(0, 1)
        if bias is None:
            torch.mm(inputs.flatten(0, 1), self.weights.w_ih.t(), out=into)
        else:
            torch.addmm(bias, inputs.flatten(0, 1), self.weights.w_ih.t(), out=into)

    @property
    def ends(self) -> list[torch.Tensor]:
        """Return the last state."""
        return [self.states[-1]]

    def gate_gradients(self, upstream: torch.Tensor | None, of_ends: Sequence[torch.Tensor | None]) -> GateGradients:
        """Return the backward pass, from d loss / d states [steps, rows, units] and d loss / d ends [rows, units]."""
        states = self.states[1:]
        slopes = (states > 0).to(states.dtype) if self.relu else 1 - states.square()
        totals, w_hh = gradients_from_outside(self.states, upstream, of_ends[0]), self.weights.w_hh
        if _is_small(totals):
            _run_back(totals.numpy(), slopes.numpy(), w_hh.numpy(), alone=upstream is None)
        else:
            *others, last = totals.unbind()
            for before, slope in zip(reversed(others), reversed(slopes.unbind()), strict=True):
                before.addmm_(last.mul_(slope), w_hh)  # a state's gradient becomes its gate's gradient
                last = before
        gates = totals[1:]
        return GateGradients(gates, gates, [totals[0]])


class ReluScan(TanhScan):
    """The time loop of `TanhScan` with ReLU instead of tanh."""

    relu = True


def _is_small(states: torch.Tensor) -> bool:
    """Return whether numpy runs the loop over states [steps, rows, units]; shape, dtype and device decide."""
    few = states[0].numel() * states.shape[2] <= SMALL_PRODUCT
    return few and states.device.type == "cpu" and states.dtype in (torch.float32, torch.float64)


@np.errstate(all="ignore")
def _run(states: np.ndarray, recurrent: np.ndarray, relu: bool) -> None:
    """Replace W_ih x_t plus the biases of every step by its state, in place."""
    dot, add, tanh = np.dot, np.add, np.tanh  # local names, because attribute look-ups would slow such short calls
    moved, (before, *steps) = np.empty_like(states[0]), states
    for state in steps:
        dot(before, recurrent, moved)
        add(state, moved, state)
        before = np.maximum(state, 0.0, out=state) if relu else tanh(state, state)


@np.errstate(all="ignore")
def _run_back(totals: np.ndarray, slopes: np.ndarray, w_hh: np.ndarray, alone: bool) -> None:
    """Replace the states' gradients by the gates', in place; `alone` says that only the last state has a gradient
    from outside the loop."""
    dot, add, multiply = np.dot, np.add, np.multiply
    moved, (*others, last) = np.empty_like(totals[0]), totals
    for before, slope in zip(reversed(others), reversed(slopes), strict=True):
        multiply(last, slope, last)
        if alone:
            dot(last, w_hh, before)
        else:
            dot(last, w_hh, moved)
            add(before, moved, before)
        last = before
