"""Per-record gradients of the weights and biases that one set of gates has, over all steps of a sequence."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import nn

from ..hooks import Each
from .outer_product import OuterProducts, is_made

Terms = list[tuple[nn.Parameter, torch.Tensor]]
"""Weights [gates, p] with their inputs [rows, steps, p]."""


def use_over_time(gradients: torch.Tensor, terms: Terms, biases: list[nn.Parameter]) -> Each | OverTime:
    """Return the use of gates = sum of weight x input + biases in every step, `gradients` [rows, steps, gates] of it.

    Parameters that take no gradient are left out; some must be left.
    """
    terms, biases = [term for term in terms if term[0].requires_grad], [b for b in biases if b.requires_grad]
    rows, steps, gates = gradients.shape
    if not is_made(steps, 1, sum(inputs.shape[2] for _, inputs in terms) + bool(biases), gates):
        return OverTime(gradients, terms, biases)
    of_gates = gradients.transpose(1, 2)
    multiply = torch.mul if steps == 1 else torch.bmm  # to the same numbers: there is nothing to add up
    of_biases = gradients.sum(1) if biases else gradients.new_empty(rows, 0)
    return Each([(w, multiply(of_gates, inputs)) for w, inputs in terms] + [(bias, of_biases) for bias in biases])


class OverTime:
    """What `use_over_time` returns where gradients are not made; a bias is a weight whose input is one."""

    def __init__(self, gradients: torch.Tensor, terms: Terms, biases: list[nn.Parameter]) -> None:
        self._terms, self._biases, self._gradients = terms, biases, gradients
        ones = [gradients.new_ones(*gradients.shape[:2], 1)] if biases else []
        parts = [inputs for _, inputs in terms] + ones
        inputs = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        self._products = OuterProducts(inputs[:, None], gradients[:, None])

    @cached_property
    def _of_second_bias(self) -> torch.Tensor | float:
        """Return the squared norm of the second bias's gradient, float64 [rows], which is that of the first."""
        if len(self._biases) < 2:
            return 0.0
        return torch.linalg.vector_norm(self._gradients.sum(1), dim=1, dtype=torch.float64).square()

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._products.squared_norms() + self._of_second_bias

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the squares of what rounding is relative to, float64 [rows]."""
        return self._products.squared_magnitudes() + self._of_second_bias

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return each parameter with the sum of the records' gradients times `factors` [rows], all of their own."""
        whole = self._products.weighted(factors)[0]
        pairs, start = list[tuple[nn.Parameter, torch.Tensor]](), 0
        for weight, _ in self._terms:
            pairs.append((weight, whole[:, start : start + weight.shape[1]]))
            start += weight.shape[1]
        return pairs + [(bias, whole[:, start].clone()) for bias in self._biases]
