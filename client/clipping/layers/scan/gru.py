"""The time loop of nn.GRU, forward and backward, without weight gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from .base import GateGradients, Weights, gradients_from_outside, sigmoid_slope, tanh_slope


class GruScan:
    """The states h_t = (1 - z) * n + z * h_(t-1) of every step.

    Gates are r, z = sigmoid(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh) and n = tanh(W_in x_t + b_in + r * (W_hn h_(t-1) +
    b_hn)), in the order r, z, n.

    Reference: Cho et al. 2014, in the form of torch.nn.GRU.
    """

    def __init__(self, inputs: torch.Tensor, start: list[torch.Tensor], weights: Weights) -> None:
        """Run over inputs [steps, rows, features] from start states [rows, units]."""
        self.weights, self.units = weights, start[0].shape[-1]
        self._feed(inputs)
        self.states = self.new.new_empty(len(inputs) + 1, *start[0].shape)
        self.states[0] = start[0]
        self._run()

    def _feed(self, inputs: torch.Tensor) -> None:
        """Set r and z [steps, rows, 2 * units] and n [steps, rows, units] to their parts from inputs and biases."""
        cut, weights = 2 * self.units, self.weights
        both = weights.both_biases()
        of_new = None if weights.b_ih is None else weights.b_ih[cut:]
        self.reset_update = nn.functional.linear(inputs, weights.w_ih[:cut], None if both is None else both[:cut])
        self.new = nn.functional.linear(inputs, weights.w_ih[cut:], of_new)

    def _run(self) -> None:
        cut, weights = 2 * self.units, self.weights
        to_gates, to_new = weights.w_hh[:cut].t().contiguous(), weights.w_hh[cut:].t().contiguous()
        bias = self.new.new_zeros(self.units) if weights.b_hh is None else weights.b_hh[cut:]
        self.hidden_new = torch.empty_like(self.new)
        states, resets = self.states.unbind(), self.reset_update[..., : self.units].unbind()
        updates = self.reset_update[..., self.units :].unbind()
        steps = zip(
            self.reset_update.unbind(), resets, updates, self.hidden_new.unbind(), self.new.unbind(), strict=True
        )
        for step, (gates, reset, update, hidden_new, new) in enumerate(steps):
            before = states[step]
            gates.addmm_(before, to_gates).sigmoid_()
            torch.addmm(bias, before, to_new, out=hidden_new)
            new.addcmul_(reset, hidden_new).tanh_()
            torch.lerp(new, before, update, out=states[step + 1])

    def _slopes(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the derivatives of the state by the gates' inputs: for n on the side of the inputs
        [steps, rows, units], and for r, z, n on the side of the states [steps, rows, 3, units].
        """
        reset, update = self.reset_update[..., : self.units], self.reset_update[..., self.units :]
        slopes = self.new.new_empty(*self.new.shape[:2], 3, self.units)
        of_new = tanh_slope(1 - update, self.new)
        sigmoid_slope(of_new * self.hidden_new, reset, out=slopes[:, :, 0])
        sigmoid_slope(self.states[:-1] - self.new, update, out=slopes[:, :, 1])
        torch.mul(of_new, reset, out=slopes[:, :, 2])
        return of_new, slopes

    @property
    def ends(self) -> list[torch.Tensor]:
        """Return the last state."""
        return [self.states[-1]]

    def gate_gradients(self, upstream: torch.Tensor | None, of_ends: Sequence[torch.Tensor | None]) -> GateGradients:
        """Return the backward pass, from d loss / d states [steps, rows, units] and d loss / d ends [rows, units]."""
        of_new, slopes = self._slopes()
        totals = gradients_from_outside(self.states, upstream, of_ends[0])
        across = torch.empty_like(slopes)
        carried, updates = totals.unbind(), self.reset_update[..., self.units :].unbind()
        flat, spread = across.flatten(2).unbind(), totals.unsqueeze(2).unbind()
        for step in reversed(range(len(flat))):
            torch.mul(spread[step + 1], slopes[step], out=across[step])
            carried[step].addcmul_(carried[step + 1], updates[step]).addmm_(flat[step], self.weights.w_hh)
        into = across.clone()
        torch.mul(totals[1:], of_new, out=into[:, :, 2])
        return GateGradients(into.flatten(2), across.flatten(2), [totals[0]])
