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
    """The sum of all parts added, one part of a vector for each parameter; those not trained stay zero."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        vector = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64, device=parameters[0].device)
        parts = vector.split([p.numel() for p in parameters])
        self._vector = vector
        self._slots = {p: part.view(p.shape) for p, part in zip(parameters, parts, strict=True) if p.requires_grad}
        self._open: dict[nn.Parameter, torch.Tensor] = {}
        self._added = 0

    def add(self, parts: Iterable[tuple[nn.Parameter, torch.Tensor]]) -> None:
        """Add a chunk's parts; the tensors become ours."""
        for parameter, part in parts:
            if parameter not in self._slots:
                continue
            if part.dtype != parameter.dtype:
                self._slots[parameter].add_(part)
            elif parameter in self._open:
                self._open[parameter].add_(part)
            else:
                self._open[parameter] = part
        self._added += 1
        if self._added % BATCHES == 0:
            self._close()

    def _close(self) -> None:
        for parameter, part in self._open.items():
            self._slots[parameter].add_(part)
        self._open.clear()

    def total(self) -> NDArray[np.float64]:
        """Return the sum, float64 [parameters]."""
        self._close()
        return self._vector.cpu().numpy()
