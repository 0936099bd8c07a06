"""Per-record gradients of the weights and biases that one set of gates has, over all steps of a sequence."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from .outer import OuterProducts


class OverTime:
    """Gates = sum of weight x input + biases in every step, with `gradients` [steps, rows, gates] of the loss.

    `terms` are the weights [gates, p] with their inputs [steps, rows, p]; a bias is a weight whose input is one.
    Parameters that take no gradient are left out; some must be left.
    """

    def __init__(
        self, gradients: torch.Tensor, terms: list[tuple[nn.Parameter, torch.Tensor]], biases: list[nn.Parameter]
    ) -> None:
        self._terms = [(weight, inputs) for weight, inputs in terms if weight.requires_grad]
        self._biases = [bias for bias in biases if bias.requires_grad]
        ones = [gradients.new_ones(*gradients.shape[:2], 1)] if self._biases else []
        parts = [inputs for _, inputs in self._terms] + ones
        inputs = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        self._gradients = gradients
        self._products = OuterProducts(inputs.transpose(0, 1)[:, None], gradients.transpose(0, 1)[:, None])

    @cached_property
    def _of_second_bias(self) -> torch.Tensor | float:
        """Return the squared norm of the second bias's gradient, float64 [rows], which is that of the first."""
        if len(self._biases) < 2:
            return 0.0
        each = self._products.each[:, 0, :, -1] if self._products.made else self._gradients.sum(0)
        return torch.linalg.vector_norm(each, dim=1, dtype=torch.float64).square()

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._products.squared_norms() + self._of_second_bias

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the squares of what rounding is relative to, float64 [rows]."""
        return self._products.magnitudes().square() + self._of_second_bias

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return each parameter with the sum of the records' gradients times `factors` [rows], all of their own."""
        whole = self._products.weighted(factors)[0]
        pairs, start = list[tuple[nn.Parameter, torch.Tensor]](), 0
        for weight, _ in self._terms:
            pairs.append((weight, whole[:, start : start + weight.shape[1]]))
            start += weight.shape[1]
        return pairs + [(bias, whole[:, start].clone()) for bias in self._biases]
