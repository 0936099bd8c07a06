"""Per-example gradients of a weight matrix: sums over positions of outer products.

The factors are an output gradient and an activation. Gradients are instantiated if this costs less, which depends
only on their shapes; otherwise their norms are ghost norms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from .base import GradientNorms, Pairs, PerExampleGradients
from .instantiated import InstantiatedGradients, squared_row_norms, total, weighted_row_sum, zero_unweighted

INSTANTIATION_COST = 16
"""The cost of one value of an instantiated gradient, computed once and used twice, in multiplications."""

LARGEST_INSTANTIATED = 1 << 21
"""The largest gradient of one record, in values, that is ever instantiated: this bounds memory."""

SMALL = 1 << 10
"""The largest gradient from a single position, in values, that is instantiated: this saves calls."""


def is_instantiated(positions: int, groups: int, p: int, d: int) -> bool:
    """Return whether gradients [groups, d, p] are instantiated. It depends on shapes alone, so all passes agree.

    Reference: Bu et al. 2022, "Scalable and Efficient Training of Large Convolutional Neural Networks with
    Differential Privacy", mixed ghost clipping.
    """
    if positions == 1:
        return groups * p * d <= SMALL
    return groups * p * d <= LARGEST_INSTANTIATED and 2 * positions**2 * (p + d) > INSTANTIATION_COST * p * d


class OuterProducts(GradientNorms):
    """Per-example gradients sum_t g_t a_t^T, [rows, groups, d, p].

    Activations a are [rows, groups, positions, p], output gradients g [rows, groups, positions, d]. If the gradients
    are not instantiated, the norm for one position is |g||a|, and the norm for several comes from Gram matrices:
    |sum_t g_t a_t^T|^2 = sum_(s, t) (a_s . a_t)(g_s . g_t). The Gram matrices and their weighted sum are computed in
    float64, because the terms may cancel.

    Reference: Li et al. 2022, "Large Language Models Can Be Strong Differentially Private Learners", section 4.
    """

    def __init__(self, activations: torch.Tensor, gradients: torch.Tensor) -> None:
        self.activations, self.gradients = activations, gradients
        _, groups, positions, p = activations.shape
        self.is_instantiated = is_instantiated(positions, groups, p, gradients.shape[3])

    @cached_property
    def each(self) -> torch.Tensor:
        """Every record's gradient, instantiated, [rows, groups, d, p]."""
        return torch.matmul(self.gradients.transpose(2, 3), self.activations)

    def _squared_norms(self) -> torch.Tensor:
        if self.is_instantiated:
            return squared_row_norms(self.each)
        if self.activations.shape[2] == 1:
            return (self._activation_lengths.square() * _squared_lengths(self.gradients)).sum((1, 2))
        a, g = self._in_float64
        grams = torch.matmul(a, a.transpose(2, 3)) * torch.matmul(g, g.transpose(2, 3))
        return grams.sum((1, 2, 3)).clamp_(min=0.0)

    @cached_property
    def _activation_lengths(self) -> torch.Tensor:
        """The L2 norms of the activations, float64 [rows, groups, positions]."""
        return _squared_lengths(self.activations).sqrt()

    @cached_property
    def _in_float64(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.activations.double(), self.gradients.double()

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """The squared norms, float64 [rows]; if they come from Gram matrices, the squares of sum_t |a_t||g_t|."""
        if self.is_instantiated or self.activations.shape[2] == 1:
            return self.squared_norms
        a, g = self._in_float64
        return (_squared_lengths(a) * _squared_lengths(g)).sqrt().sum((1, 2)).square()

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """Return the sum over records of gradients times `factors` [rows], [groups, d, p].

        If only one record's factor is not zero, the sum depends on this record alone, not even on its row.
        """
        if self.is_instantiated:
            return weighted_row_sum(self.each, factors)
        if self.activations.shape[2] == 1:
            a, g = zero_unweighted(self.activations, factors), zero_unweighted(self.gradients, factors)
            return _sum_of_products(*_balanced(a, g, factors, self._activation_lengths[..., None]))
        a, g = (zero_unweighted(part, factors) for part in self._in_float64)
        return _sum_of_products(*_only_weighted(a, g, factors))


def _sum_of_products(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Return the sum over records and positions of outer products, [groups, d, p]."""
    left = gradients.transpose(0, 1).flatten(1, 2).transpose(1, 2)
    return torch.matmul(left, activations.transpose(0, 1).flatten(1, 2))


def _only_weighted(
    activations: torch.Tensor, gradients: torch.Tensor, factors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return activations, and gradients times factors, float64; of one record only if only its factor is not zero.

    A matrix product sums block by block. A record whose terms cancel sums differently across two blocks than within
    one. So its part of the sum would depend on its row, hence on the other records.
    """
    rows = factors.nonzero()[:, 0]
    kept = slice(int(rows[0]), int(rows[0]) + 1) if len(rows) == 1 else slice(None)
    return activations[kept], gradients[kept] * factors[kept].view(-1, 1, 1, 1)


def _balanced(
    activations: torch.Tensor, gradients: torch.Tensor, factors: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return activations scaled to a norm near one, and gradients times factors times the inverse scale, exactly.

    `lengths` [rows, groups, 1, 1] are the norms of the activations. The product of activation and weighted gradient
    is at most a clip norm, but each alone may be out of float32's range: for example 1e38 and 1e-40. Each group has
    its own scale, because one group may have large activations where another has small ones.
    """
    _, exponents = torch.frexp(torch.where((lengths > 0) & torch.isfinite(lengths), lengths, 1.0))
    scale = torch.ldexp(torch.ones_like(lengths), exponents.clamp(-126, 126))
    shares = gradients.double() * (factors.view(-1, 1, 1, 1) * scale)
    return activations / scale.to(activations.dtype), shares.to(gradients.dtype)


def _squared_lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Return squared L2 norms of vectors [rows, groups, positions, width], float64 [rows, groups, positions]."""
    return torch.linalg.vector_norm(vectors, dim=3, dtype=torch.float64).square()


class ColumnBlocks(GradientNorms):
    """Outer products whose activations are blocks of columns, which are never copied into one tensor."""

    def __init__(self, blocks: Sequence[OuterProducts]) -> None:
        self._blocks = blocks

    def _squared_norms(self) -> torch.Tensor:
        return torch.stack([block.squared_norms for block in self._blocks]).sum(0)

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """The sum of the blocks' squared bounds, float64 [rows]."""
        return torch.stack([block.squared_norm_bounds for block in self._blocks]).sum(0)

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """Return the sum over records of gradients times `factors` [rows], [groups, d, blocks * p]."""
        return torch.cat([block.weighted_sum(factors) for block in self._blocks], dim=2)


class MatrixGradients(PerExampleGradients):
    """The gradients of `layer.weight`, which are outer products, and of `layer.bias`, if it exists.

    `shape` converts the weight's gradient from [groups, d, p] to the weight's own shape. The bias's gradient is the
    output gradient [rows, positions, outputs], summed over positions.
    """

    def __init__(
        self,
        layer: Any,
        products: OuterProducts | ColumnBlocks,
        gradients: torch.Tensor,
        shape: Callable[[torch.Tensor], torch.Tensor] = lambda gradient: gradient[0],
    ) -> None:
        self._weight: nn.Parameter = layer.weight
        self._products, self._shape = products, shape
        bias: nn.Parameter | None = layer.bias
        self._bias = (
            None if bias is None or not bias.requires_grad else InstantiatedGradients([(bias, gradients.sum(1))])
        )

    def _squared_norms(self) -> torch.Tensor:
        parts = [self._products.squared_norms] if self._weight.requires_grad else []
        return total([*parts, *([self._bias.squared_norms] if self._bias else [])])

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """The sum of the bounds of weight and bias, float64 [rows]."""
        parts = [self._products.squared_norm_bounds] if self._weight.requires_grad else []
        return total([*parts, *([self._bias.squared_norm_bounds] if self._bias else [])])

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return weight and bias with the sums of the records' gradients times `factors` [rows]."""
        pairs = [] if self._bias is None else list(self._bias.weighted_sum(factors))
        if not self._weight.requires_grad:
            return pairs
        return [(self._weight, self._shape(self._products.weighted_sum(factors))), *pairs]


WeightInputs = list[tuple[nn.Parameter, torch.Tensor]]
"""Weights [d, p], each with its activations [rows, positions, p]."""


def affine_gradients(gradients: torch.Tensor, terms: WeightInputs, biases: list[nn.Parameter]) -> PerExampleGradients:
    """Return the gradients of weights and biases of y_t = sum of W x_t over the terms, plus the biases.

    `gradients` [rows, positions, d] are the gradients of y. Parameters that are not trained are left out; at least
    one must be trained.
    """
    terms, biases = [term for term in terms if term[0].requires_grad], [b for b in biases if b.requires_grad]
    rows, positions, d = gradients.shape
    if not is_instantiated(positions, 1, sum(inputs.shape[2] for _, inputs in terms) + bool(biases), d):
        return AffineGradients(gradients, terms, biases)
    transposed = gradients.transpose(1, 2)
    multiply = torch.mul if positions == 1 else torch.bmm  # with one position both agree, because nothing is summed
    of_biases = gradients.sum(1) if biases else gradients.new_empty(rows, 0)
    pairs = [(weight, multiply(transposed, inputs)) for weight, inputs in terms]
    return InstantiatedGradients(pairs + [(bias, of_biases) for bias in biases])


class AffineGradients(PerExampleGradients):
    """The result of `affine_gradients` without instantiated gradients: a bias is a weight whose input is one."""

    def __init__(self, gradients: torch.Tensor, terms: WeightInputs, biases: list[nn.Parameter]) -> None:
        self._terms, self._biases, self._gradients = terms, biases, gradients
        ones = [gradients.new_ones(*gradients.shape[:2], 1)] if biases else []
        parts = [inputs for _, inputs in terms] + ones
        inputs = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        self._products = OuterProducts(inputs[:, None], gradients[:, None])

    @cached_property
    def _of_second_bias(self) -> torch.Tensor | float:
        """The squared norm of the second bias's gradient, float64 [rows], equal to that of the first bias."""
        if len(self._biases) < 2:
            return 0.0
        return torch.linalg.vector_norm(self._gradients.sum(1), dim=1, dtype=torch.float64).square()

    def _squared_norms(self) -> torch.Tensor:
        return self._products.squared_norms + self._of_second_bias

    @property
    def squared_norm_bounds(self) -> torch.Tensor:
        """The bounds of all terms and biases, float64 [rows]."""
        return self._products.squared_norm_bounds + self._of_second_bias

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return each parameter with the sum of the records' gradients times `factors` [rows]; no sums overlap."""
        summed = self._products.weighted_sum(factors)[0]
        pairs, start = list[tuple[nn.Parameter, torch.Tensor]](), 0
        for weight, _ in self._terms:
            pairs.append((weight, summed[:, start : start + weight.shape[1]]))
            start += weight.shape[1]
        return pairs + [(bias, summed[:, start].clone()) for bias in self._biases]
