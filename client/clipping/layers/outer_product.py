"""Per-example gradients of a weight matrix: sums over positions of outer products.

The factors are an output gradient and an activation. Gradients are instantiated where that costs less, which follows
from their shapes alone; elsewhere their norms are ghost norms.
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
"""What one number of an instantiated gradient costs, made once and used twice, in multiplications of a product."""

LARGEST_INSTANTIATED = 1 << 21
"""Numbers of one record's gradient beyond which it is never instantiated: a bound on memory."""

SMALL = 1 << 10
"""Numbers of a gradient from one position up to which it is instantiated: there, time goes by the number of calls."""


def is_instantiated(positions: int, groups: int, p: int, d: int) -> bool:
    """Return whether gradients [groups, d, p] are instantiated: their shapes decide, so it is the same in every pass.

    Reference: Bu et al. 2022, "Scalable and Efficient Training of Large Convolutional Neural Networks with
    Differential Privacy", mixed ghost clipping.
    """
    if positions == 1:
        return groups * p * d <= SMALL
    return groups * p * d <= LARGEST_INSTANTIATED and 2 * positions**2 * (p + d) > INSTANTIATION_COST * p * d


class OuterProducts(GradientNorms):
    """Per-example gradients sum_t g_t a_t^T, [rows, groups, d, p].

    Activations a are [rows, groups, positions, p], output gradients g [rows, groups, positions, d]. Where the
    gradients are not instantiated, the norm of one position is |g||a|, and the norm of several comes from Gram
    matrices: |sum_t g_t a_t^T|^2 = sum_(s, t) (a_s . a_t)(g_s . g_t). These, and then the weighted sum too, are
    computed in float64, since the terms may cancel.

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
        """The squared norms, or of Gram matrices the square of sum_t |a_t||g_t|, float64 [rows]."""
        if self.is_instantiated or self.activations.shape[2] == 1:
            return self.squared_norms
        a, g = self._in_float64
        return (_squared_lengths(a) * _squared_lengths(g)).sqrt().sum((1, 2)).square()

    def weighted_sum(self, factors: torch.Tensor) -> torch.Tensor:
        """Return the sum over records of gradients times `factors` [rows], [groups, d, p].

        If only one record's factor is not zero, the sum depends on nothing but that record, its row included.
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
    """Return activations, and gradients times factors, float64: of one record alone if only its factor is not zero.

    A matrix product sums block by block. A record whose terms cancel has another sum where it lies across two blocks
    than where it lies in one: among others, the row that it stands in would change its share.
    """
    rows = factors.nonzero()[:, 0]
    kept = slice(int(rows[0]), int(rows[0]) + 1) if len(rows) == 1 else slice(None)
    return activations[kept], gradients[kept] * factors[kept].view(-1, 1, 1, 1)


def _balanced(
    activations: torch.Tensor, gradients: torch.Tensor, factors: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return activations scaled to a length near one, and gradients times factors and the inverse scale, exactly.

    `lengths` [rows, groups, 1, 1] are those of the activations. The product of both is at most a clip norm, but each
    alone may be out of float32's range: a gradient of 1e-40 times a factor beside an activation of 1e38, or the other
    way round. Each group has its own scale, for the groups' sizes may be opposite.
    """
    _, exponents = torch.frexp(torch.where((lengths > 0) & torch.isfinite(lengths), lengths, 1.0))
    scale = torch.ldexp(torch.ones_like(lengths), exponents.clamp(-126, 126))
    shares = gradients.double() * (factors.view(-1, 1, 1, 1) * scale)
    return activations / scale.to(activations.dtype), shares.to(gradients.dtype)


def _squared_lengths(vectors: torch.Tensor) -> torch.Tensor:
    """Return squared L2 norms of vectors [rows, groups, positions, width], float64 [rows, groups, positions]."""
    return torch.linalg.vector_norm(vectors, dim=3, dtype=torch.float64).square()


class ColumnBlocks(GradientNorms):
    """Outer products whose activations are blocks of columns, side by side: they are never copied into one tensor."""

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
    """The gradients of `layer.weight`, which are outer products, and of `layer.bias`, if there is one.

    `shape` brings the weight's from [groups, d, p] to the weight's own shape. The bias's are the output gradients
    [rows, positions, outputs], summed over positions.
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

    `gradients` [rows, positions, d] are those of y. Parameters that are not trained are left out; one must be
    trained.
    """
    terms, biases = [term for term in terms if term[0].requires_grad], [b for b in biases if b.requires_grad]
    rows, positions, d = gradients.shape
    if not is_instantiated(positions, 1, sum(inputs.shape[2] for _, inputs in terms) + bool(biases), d):
        return AffineGradients(gradients, terms, biases)
    transposed = gradients.transpose(1, 2)
    multiply = torch.mul if positions == 1 else torch.bmm  # the same numbers: there is nothing to sum
    of_biases = gradients.sum(1) if biases else gradients.new_empty(rows, 0)
    pairs = [(weight, multiply(transposed, inputs)) for weight, inputs in terms]
    return InstantiatedGradients(pairs + [(bias, of_biases) for bias in biases])


class AffineGradients(PerExampleGradients):
    """What `affine_gradients` returns where gradients are not instantiated: a bias is a weight whose input is one."""

    def __init__(self, gradients: torch.Tensor, terms: WeightInputs, biases: list[nn.Parameter]) -> None:
        self._terms, self._biases, self._gradients = terms, biases, gradients
        ones = [gradients.new_ones(*gradients.shape[:2], 1)] if biases else []
        parts = [inputs for _, inputs in terms] + ones
        inputs = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
        self._products = OuterProducts(inputs[:, None], gradients[:, None])

    @cached_property
    def _of_second_bias(self) -> torch.Tensor | float:
        """The squared norm of the second bias's gradient, float64 [rows], which is that of the first one's."""
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
        """Return each parameter with the sum of the records' gradients times `factors` [rows], of its own memory."""
        summed = self._products.weighted_sum(factors)[0]
        pairs, start = list[tuple[nn.Parameter, torch.Tensor]](), 0
        for weight, _ in self._terms:
            pairs.append((weight, summed[:, start : start + weight.shape[1]]))
            start += weight.shape[1]
        return pairs + [(bias, summed[:, start].clone()) for bias in self._biases]
