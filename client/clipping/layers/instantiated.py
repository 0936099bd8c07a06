"""Instantiated per-example gradients, and the arithmetic on tensors with one row for each record."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch

from .base import Pairs, PerExampleGradients

BLOCK = 256
"""The number of values whose squares are summed in their own dtype; the sum over such blocks is in float64."""


class InstantiatedGradients(PerExampleGradients):
    """Per-example gradients of small layers, as tensors [rows, *shape]."""

    def __init__(self, pairs: Pairs) -> None:
        """Keep the pairs whose parameter is trained."""
        self._pairs = [(parameter, each) for parameter, each in pairs if parameter.requires_grad]

    def _squared_norms(self) -> torch.Tensor:
        return total([squared_row_norms(each) for _, each in self._pairs])

    @property
    def instantiated(self) -> Pairs:
        """Each parameter with all records' gradients [rows, *its shape]."""
        return self._pairs

    def weighted_sum(self, factors: torch.Tensor) -> Pairs:
        """Return each parameter with the sum over records of its gradient times `factors` [rows]."""
        return [(parameter, weighted_row_sum(each, factors)) for parameter, each in self._pairs]


def total(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the sum of one or more tensors of the same shape."""
    return reduce(torch.add, parts)


def squared_row_norms(each: torch.Tensor) -> torch.Tensor:
    """Return the squared L2 norm of every row of a tensor [rows, ...], float64 [rows].

    Values above 1e18 give infinity, and values below 1e-19 may count as zero. A clip factor is below 1e6 clip norms,
    so n values that count as zero add less than 1e-13 sqrt(n) clip norms.
    """
    flat = flat_rows(each)
    whole = flat.shape[1] // BLOCK * BLOCK
    parts = [torch.linalg.vector_norm(flat[:, whole:], dim=1, dtype=torch.float64)] if whole < flat.shape[1] else []
    if whole:
        blocks = torch.linalg.vector_norm(flat[:, :whole].unflatten(1, (-1, BLOCK)), dim=2)
        parts.append(torch.linalg.vector_norm(blocks, dim=1, dtype=torch.float64))
    return total([part.square() for part in parts])


def flat_rows(each: torch.Tensor) -> torch.Tensor:
    """Return a tensor [rows, ...] as [rows, numbers]."""
    return each.flatten(1) if each.dim() > 1 else each[:, None]


def weighted_row_sum(each: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Return the sum over rows of a tensor [rows, *shape] times `factors` [rows], of shape `shape`."""
    kept = zero_unweighted(each, factors)
    return (factors.to(kept.dtype) @ flat_rows(kept)).view(kept.shape[1:])


def zero_unweighted(rows: torch.Tensor, factors: torch.Tensor) -> torch.Tensor:
    """Return a tensor [rows, ...] with zeros in the rows of factor zero, even if these hold NaN."""
    if bool(factors.all()):
        return rows
    return torch.where(factors.view(-1, *[1] * (rows.dim() - 1)) != 0, rows, 0.0)
