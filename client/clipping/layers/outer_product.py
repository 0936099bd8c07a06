"""Per-record gradients of a matrix: sums over positions of outer products of an output gradient and an input."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from ..hooks import finite, squared_norms, weighted

PASS = 16
"""What making one number of a per-record gradient and using it twice costs, in multiplications of a product."""

LARGEST = 1 << 21
"""Numbers of one record's gradient beyond which it is not made, however fast that were."""

SMALL = 1 << 10
"""Numbers of a gradient from one position up to which it is made: a few calls take longer than so many numbers."""


def is_made(positions: int, groups: int, p: int, d: int) -> bool:
    """Return whether gradients [groups, d, p] are made for every record: a rule of shapes, the same on every day."""
    if positions == 1:
        return groups * p * d <= SMALL
    return groups * p * d <= LARGEST and 2 * positions**2 * (p + d) > PASS * p * d


class OuterProducts:
    """Per-record gradients sum_t g_t a_t^T, of `inputs` a [rows, groups, positions, p] and `gradients` g [.., d].

    Where gradients are small next to what they are made from, they are made. Else, where there is one position, the
    norm is |g||a|, and where there are more it is that of the Gram matrices:
    |sum_t g_t a_t^T|^2 = sum_(s, t) (a_s . a_t)(g_s . g_t). They are in float64, and so is the sum then: its
    positions may cancel.

    Reference: Li et al. 2022, "Large Language Models Can Be Strong Differentially Private Learners", section 4.
    """

    def __init__(self, inputs: torch.Tensor, gradients: torch.Tensor) -> None:
        self.inputs, self.gradients = inputs, gradients
        _, groups, positions, p = inputs.shape
        self.made = is_made(positions, groups, p, gradients.shape[3])

    @cached_property
    def each(self) -> torch.Tensor:
        """Every record's gradient, [rows, groups, d, p]."""
        return torch.matmul(self.gradients.transpose(2, 3), self.inputs)

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows], never negative."""
        return self._squares

    @cached_property
    def _squares(self) -> torch.Tensor:
        if self.made:
            return squared_norms(self.each)
        if self.inputs.shape[2] == 1:
            return (self._lengths.square() * _sizes(self.gradients)).sum((1, 2))
        a, g = self._doubles
        grams = torch.matmul(a, a.transpose(2, 3)) * torch.matmul(g, g.transpose(2, 3))
        return grams.sum((1, 2, 3)).clamp_(min=0.0)

    @cached_property
    def _lengths(self) -> torch.Tensor:
        """Return those of the inputs, float64 [rows, groups, positions]."""
        return _sizes(self.inputs).sqrt()

    @cached_property
    def _doubles(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs.double(), self.gradients.double()

    def squared_magnitudes(self) -> torch.Tensor:
        """Return float64 [rows], of the norms if gradients are made or positions are one, else of sum |a_t||g_t|."""
        if self.made or self.inputs.shape[2] == 1:
            return self._squares
        a, g = self._doubles
        return (_sizes(a) * _sizes(g)).sqrt().sum((1, 2)).square()

    def weighted(self, factors: torch.Tensor) -> torch.Tensor:
        """Return the sum over records of gradients times `factors` [rows], [groups, d, p].

        What a record gives whose factor is the only one depends on nothing else, its place among the rows included.
        """
        if self.made:
            return weighted(self.each, factors)
        if self.inputs.shape[2] == 1:
            a, g = finite(self.inputs, factors), finite(self.gradients, factors)
            return _summed(*_balanced(a, g, factors, self._lengths[..., None]))
        a, g = (finite(part, factors) for part in self._doubles)
        return _summed(*_alone_or_all(a, g, factors))


def _summed(inputs: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Return the sum over records and positions of outer products, [groups, d, p]."""
    return torch.matmul(gradients.transpose(0, 1).flatten(1, 2).transpose(1, 2), inputs.transpose(0, 1).flatten(1, 2))


def _alone_or_all(
    inputs: torch.Tensor, gradients: torch.Tensor, factors: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and gradients times factors, float64, and only those of a record that is the only one.

    A matrix product cuts its sums in blocks: where a record's terms cancel, and it lies across two of them, its sum
    is another than where it lies within one, and how many records lie before it would move its share.
    """
    rows = factors.nonzero()[:, 0]
    kept = slice(int(rows[0]), int(rows[0]) + 1) if len(rows) == 1 else slice(None)
    return inputs[kept], gradients[kept] * factors[kept].view(-1, 1, 1, 1)


def _balanced(
    inputs: torch.Tensor, gradients: torch.Tensor, factors: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return inputs and gradients times factors, inputs of these `lengths` brought to near length one, exactly.

    Lengths are [rows, groups, 1, 1]. The products are no larger than a clip norm, but a gradient of 1e-40 times a
    factor may be less than the least number, beside inputs of 1e38, or one of 1e38 past the largest. Each group has a
    length of its own: beside that of another, its gradients may be past the largest number too.
    """
    _, exponents = torch.frexp(torch.where((lengths > 0) & torch.isfinite(lengths), lengths, 1.0))
    scale = torch.ldexp(torch.ones_like(lengths), exponents.clamp(-126, 126))
    shares = gradients.double() * (factors.view(-1, 1, 1, 1) * scale)
    return inputs / scale.to(inputs.dtype), shares.to(gradients.dtype)


class Strips:
    """Outer products whose inputs lie in strips side by side, never put together."""

    def __init__(self, strips: Sequence[OuterProducts]) -> None:
        self._strips = strips

    @cached_property
    def _squares(self) -> torch.Tensor:
        return torch.stack([strip.squared_norms() for strip in self._strips]).sum(0)

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._squares

    def squared_magnitudes(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return torch.stack([strip.squared_magnitudes() for strip in self._strips]).sum(0)

    def weighted(self, factors: torch.Tensor) -> torch.Tensor:
        """Return [groups, d, strips * p]."""
        return torch.cat([strip.weighted(factors) for strip in self._strips], dim=2)


def _sizes(vectors: torch.Tensor) -> torch.Tensor:
    """Return squared lengths of vectors [rows, groups, positions, width], float64 [rows, groups, positions]."""
    return torch.linalg.vector_norm(vectors, dim=3, dtype=torch.float64).square()
