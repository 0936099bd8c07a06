"""The time loop of nn.RNN, forwards and back, without a weight gradient in it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .scan import Gates, Weights, received


class SimpleScan:
    """States h_t = f(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) of every step, f being tanh or ReLU.

    Reference: Elman 1990; torch.nn.RNN.
    """

    rectified = False

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None:
        """Run over inputs [steps, rows, features] from start states [rows, units]."""
        self.weights = weights
        self.states = inputs.new_empty(len(inputs) + 1, *start[0].shape)
        self.states[0] = start[0]
        self._feed(inputs)
        recurrent, (before, *steps) = weights.w_hh.t().contiguous(), self.states.unbind()
        for state in steps:
            state.addmm_(before, recurrent)
            before = state.relu_() if self.rectified else state.tanh_()

    def _feed(self, inputs: torch.Tensor) -> None:
        """Put the inputs' part of every step where its state will be."""
        bias, into = self.weights.both_biases(), self.states[1:].flatten(0, 1)
        if bias is None:
            torch.mm(inputs.flatten(0, 1), self.weights.w_ih.t(), out=into)
        else:
            torch.addmm(bias, inputs.flatten(0, 1), self.weights.w_ih.t(), out=into)

    @property
    def ends(self) -> list[torch.Tensor]:
        """Return the last state."""
        return [self.states[-1]]

    def gates(self, upstream: torch.Tensor | None, of_ends: Sequence[torch.Tensor | None]) -> Gates:
        """Return what reaches the gates, from d loss / d states [steps, rows, units] and d loss / d ends."""
        states = self.states[1:]
        slopes = (states > 0).to(states.dtype) if self.rectified else 1 - states.square()
        totals = received(self.states, upstream, of_ends[0])
        w_hh, (*others, last) = self.weights.w_hh, totals.unbind()
        for before, slope in zip(reversed(others), reversed(slopes.unbind()), strict=True):
            before.addmm_(last.mul_(slope), w_hh)  # what reached a state becomes what reached its gate
            last = before
        gates = totals[1:]
        return Gates(gates, gates, [totals[0]])


class RectifiedScan(SimpleScan):
    """The same with ReLU."""

    rectified = True
