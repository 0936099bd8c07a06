"""The use of a layer that has one weight, whose gradient is a sum of outer products, and perhaps a bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ..hooks import Each, total
from .outer_product import OuterProducts, Strips


class MatrixUse:
    """The gradients of `layer.weight` and `layer.bias`.

    `products` gives the weight's, which `shape` brings from [groups, d, p] to the weight's shape; the bias's are the
    output gradients [rows, positions, outputs] summed over positions.
    """

    def __init__(
        self,
        layer: Any,
        products: OuterProducts | Strips,
        gradients: torch.Tensor,
        shape: Callable[[torch.Tensor], torch.Tensor] = lambda gradient: gradient[0],
    ) -> None:
        self._weight: nn.Parameter = layer.weight
        self._products, self._shape = products, shape
        bias: nn.Parameter | None = layer.bias
        self._bias = None if bias is None or not bias.requires_grad else Each([(bias, gradients.sum(1))])

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        parts = [self._products.squared_norms()] if self._weight.requires_grad else []
        return total([*parts, *([self._bias.squared_norms()] if self._bias else [])])

    def squared_magnitudes(self) -> torch.Tensor:
        """Return float64 [rows]."""
        parts = [self._products.squared_magnitudes()] if self._weight.requires_grad else []
        return total([*parts, *([self._bias.squared_magnitudes()] if self._bias else [])])

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the parameters with their weighted sums."""
        pairs = [(self._weight, self._shape(self._products.weighted(factors)))] if self._weight.requires_grad else []
        return pairs + (self._bias.weighted(factors) if self._bias else [])
