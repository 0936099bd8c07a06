"""The time loop of nn.RNN, forwards and back, without a weight gradient in it."""

from __future__ import annotations

import torch
from torch import nn

from .scan import Gates, Weights


class SimpleScan:
    """States h_t = f(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) of every step, f being tanh or ReLU.

    Reference: Elman 1990; torch.nn.RNN.
    """

    rectified = False

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None:
        """Run over inputs [steps, rows, features] from start states [rows, units]."""
        self.weights = weights
        fed = nn.functional.linear(inputs, weights.w_ih, weights.both_biases())
        self.states = fed.new_empty(len(fed) + 1, *start[0].shape)
        self.states[0] = start[0]
        self.cells: torch.Tensor | None = None
        recurrent = weights.w_hh.t().contiguous()
        steps = self.states.unbind()
        for into, before, state in zip(fed.unbind(), steps, steps[1:], strict=False):
            torch.addmm(into, before, recurrent, out=state)
            state.relu_() if self.rectified else state.tanh_()

    def gates(self, upstream: torch.Tensor | None, of_cells: torch.Tensor | None = None) -> Gates:
        """Return what reaches the gates, from d loss / d states [steps, rows, units]."""
        states = self.states[1:]
        slopes = (states > 0).to(states.dtype) if self.rectified else 1 - states.square()
        totals = self.states.new_zeros(self.states.shape)
        if upstream is not None:
            totals[1:] = upstream
        gates = torch.empty_like(slopes)
        carried = totals.unbind()
        for step in reversed(range(len(gates))):
            gate = torch.mul(carried[step + 1], slopes[step], out=gates[step])
            carried[step].addmm_(gate, self.weights.w_hh)
        return Gates(gates, gates, [totals[0]])


class RectifiedScan(SimpleScan):
    """The same with ReLU."""

    rectified = True
