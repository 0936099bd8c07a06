"""The time loop of nn.LSTM, forward and backward, without weight gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .base import GateGradients, Weights, gradients_from_outside, sigmoid_slope, tanh_slope


class LstmScan:
    """The states h_t = o * tanh(c_t) and cells c_t = f * c_(t-1) + i * g of every step.

    Gates are i, f, o = sigmoid(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) and g = tanh(the same), in the order i, f, g,
    o.

    Reference: Hochreiter & Schmidhuber 1997, in the form of torch.nn.LSTM.
    """

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None:
        """Run over inputs [steps, rows, features] from start states and cells [rows, units]."""
        self.weights = weights
        fed = nn.functional.linear(inputs, weights.w_ih, weights.both_biases())
        self.gates = fed.unflatten(2, (4, -1))
        self.states = fed.new_empty(len(fed) + 1, *start[0].shape)
        self.all_cells = torch.empty_like(self.states)
        self.tanh_cells = torch.empty_like(self.states[1:])
        self.states[0], self.all_cells[0] = start
        self._run(fed)

    def _run(self, fed: torch.Tensor) -> None:
        recurrent = self.weights.w_hh.t().contiguous()
        states, cells, tanh_cells = self.states.unbind(), self.all_cells.unbind(), self.tanh_cells.unbind()
        i_and_f = self.gates[:, :, :2].unbind()
        i, f, g, o = (self.gates[:, :, gate].unbind() for gate in range(4))
        for step, gates in enumerate(fed.unbind()):
            gates.addmm_(states[step], recurrent)
            i_and_f[step].sigmoid_()
            g[step].tanh_()
            o[step].sigmoid_()
            cell = torch.mul(f[step], cells[step], out=cells[step + 1])
            cell.addcmul_(i[step], g[step])
            torch.mul(o[step], torch.tanh(cell, out=tanh_cells[step]), out=states[step + 1])

    def _slopes(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the derivatives of the cell by the inputs of i, f, g [steps, rows, 3, units], of the state by the
        input of o [steps, rows, units], and of the state by the cell [steps, rows, units].
        """
        i, f, g, o = self.gates.unbind(2)
        of_cell = torch.empty_like(self.gates[:, :, :3])
        sigmoid_slope(g, i, out=of_cell[:, :, 0])
        sigmoid_slope(self.all_cells[:-1], f, out=of_cell[:, :, 1])
        tanh_slope(i, g, out=of_cell[:, :, 2])
        return of_cell, sigmoid_slope(self.tanh_cells, o), tanh_slope(o, self.tanh_cells)

    @property
    def ends(self) -> list[torch.Tensor]:
        """The last states and cells."""
        return [self.states[-1], self.all_cells[-1]]

    def gate_gradients(self, upstream: torch.Tensor | None, of_ends: Sequence[torch.Tensor | None]) -> GateGradients:
        """Return the backward pass, from d loss / d states [steps, rows, units] and d loss / d ends [rows, units]."""
        of_cell, of_out, through = self._slopes()
        totals = gradients_from_outside(self.states, upstream, of_ends[0])
        cells = gradients_from_outside(self.states, None, of_ends[1])
        gates = torch.empty_like(self.gates)
        flat, forget = gates.flatten(2).unbind(), self.gates[:, :, 1].unbind()
        for step in reversed(range(len(gates))):
            total, cell = totals[step + 1], cells[step + 1]
            cell.addcmul_(total, through[step])
            torch.mul(cell.unsqueeze(1), of_cell[step], out=gates[step, :, :3])
            torch.mul(total, of_out[step], out=gates[step, :, 3])
            cells[step].addcmul_(cell, forget[step])
            totals[step].addmm_(flat[step], self.weights.w_hh)
        across = gates.flatten(2)
        return GateGradients(across, across, [totals[0], cells[0]])
