"""A sum of many parts over all parameters, in float64 and yet at the speed of the parts' dtype."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCHES = 8
"""So many chunks' sums are added in their own dtype before they are added in float64."""


class Sums:
    """The sum of all parts added, one part of a vector for each parameter; those not trained are zero."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._parameters = parameters
        self._open: dict[nn.Parameter, torch.Tensor] = {}
        self._closed: dict[nn.Parameter, torch.Tensor] = {}
        self._added = 0

    def add(self, parts: Iterable[tuple[nn.Parameter, torch.Tensor]]) -> None:
        """Add a chunk's parts; the tensors become ours."""
        for parameter, part in parts:
            if parameter.requires_grad:
                _put(self._open if part.dtype == parameter.dtype else self._closed, parameter, part)
        self._added += 1
        if self._added % BATCHES == 0:
            self._close()

    def _close(self) -> None:
        for parameter, part in self._open.items():
            _put(self._closed, parameter, part.double())
        self._open.clear()

    def total(self) -> NDArray[np.float64]:
        """Return the sum, float64 [parameters]."""
        sizes = [parameter.numel() for parameter in self._parameters]
        vector = torch.empty(sum(sizes), dtype=torch.float64, device=self._parameters[0].device)
        for parameter, slot in zip(self._parameters, vector.split(sizes), strict=True):
            self._fill(slot, [sums[parameter] for sums in (self._open, self._closed) if parameter in sums])
        return vector.cpu().numpy()

    def _fill(self, slot: torch.Tensor, parts: list[torch.Tensor]) -> None:
        """Fill a parameter's slot [numbers] with the sum of its parts, of which there may be none."""
        if not parts:
            slot.zero_()
        for place, part in enumerate(parts):
            into = slot.view(part.shape)
            into.add_(part) if place else into.copy_(part)


def _put(sums: dict[nn.Parameter, torch.Tensor], parameter: nn.Parameter, part: torch.Tensor) -> None:
    if parameter in sums:
        sums[parameter].add_(part)
    else:
        sums[parameter] = part
