"""Short gradients of all layers side by side in one tensor: a small network's step is a matter of few calls."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import nn

from .accumulate import Run
from .hooks import BLOCK, Pairs, squared_norms, weighted
from .layers.registry import Use

SHORT = 1 << 12
"""Numbers of one record's gradient up to which it is put together: a few calls take longer than so many numbers."""


class Whole:
    """Uses that made their gradients, as one use: of pairs of a parameter and a tensor [rows, *its shape]."""

    def __init__(self, pairs: Pairs) -> None:
        self._parameters = [parameter for parameter, _ in pairs]
        flat = [each.flatten(1) for _, each in pairs]
        self._sizes = [each.shape[1] for each in flat]
        self._sizes.append(-sum(self._sizes) % BLOCK)
        self._each = torch.cat([*flat, flat[0].new_zeros(len(flat[0]), self._sizes[-1])], dim=1)

    def squared_norms(self) -> torch.Tensor:
        """Return float64 [rows]."""
        return self._squares

    @cached_property
    def _squares(self) -> torch.Tensor:
        return squared_norms(self._each)

    def squared_magnitudes(self) -> torch.Tensor:
        """Return the squared norms, float64 [rows]: positions are summed already."""
        return self._squares

    def weighted(self, factors: torch.Tensor) -> list[tuple[nn.Parameter, torch.Tensor]]:
        """Return the parameters with their weighted sums."""
        parts = zip(self._parameters, weighted(self._each, factors).split(self._sizes), strict=False)
        return [(parameter, part.view(parameter.shape)) for parameter, part in parts]

    def runs(self, factors: torch.Tensor) -> list[tuple[Run, torch.Tensor]]:
        """Return all parameters with their weighted sums in one tensor [numbers]."""
        return [(tuple(self._parameters), weighted(self._each, factors)[: sum(self._sizes[:-1])])]


def whole(uses: Sequence[Use]) -> Sequence[Use]:
    """Return the uses, as one where all made their gradients and these are short together."""
    made: list[Pairs] = [getattr(use, "pairs", []) for use in uses]
    pairs = [pair for own in made for pair in own]
    if not all(made) or sum(parameter.numel() for parameter, _ in pairs) > SHORT:
        return uses
    return [Whole(pairs)]
