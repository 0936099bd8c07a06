"""A sum of many parts over all parameters, in float64 and yet at the speed of the parts' dtype."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCHES = 8
"""So many chunks' sums are added in their own dtype before they are added in float64."""

Run = tuple[nn.Parameter, ...]
"""Parameters whose parts lie one after another in a tensor [numbers], or one alone, whose part may have its shape."""


class Sums:
    """The sum of all parts added, one part of a vector for each parameter; those not trained are zero."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._all: Run = tuple(parameters)
        self._open: dict[Run, torch.Tensor] = {}
        self._closed: dict[Run, torch.Tensor] = {}
        self._added = 0

    def add(self, parts: Iterable[tuple[Run, torch.Tensor]]) -> None:
        """Add a chunk's parts; the tensors become ours."""
        for run, part in parts:
            if run[0].requires_grad:
                _put(self._open if part.dtype == run[0].dtype else self._closed, run, part)
        self._added += 1
        if self._added % BATCHES == 0:
            self._close()

    def _close(self) -> None:
        for run, part in self._open.items():
            _put(self._closed, run, part.double())
        self._open.clear()

    def total(self) -> NDArray[np.float64]:
        """Return the sum, float64 [parameters]."""
        if self._all in self._open and len(self._open) == 1 and not self._closed:
            return self._open[self._all].flatten().double().cpu().numpy()
        sizes = [parameter.numel() for parameter in self._all]
        vector = torch.empty(sum(sizes), dtype=torch.float64, device=self._all[0].device)
        empty = dict(zip(self._all, vector.split(sizes), strict=True))
        slots, parts = empty.copy(), [*self._open.items(), *self._closed.items()]
        for run, part in parts:
            for parameter, piece in zip(run, part.flatten().split([p.numel() for p in run]), strict=True):
                fill = slots[parameter].copy_ if empty.pop(parameter, None) is not None else slots[parameter].add_
                fill(piece)
        for slot in empty.values():
            slot.zero_()
        return vector.cpu().numpy()


def _put(sums: dict[Run, torch.Tensor], run: Run, part: torch.Tensor) -> None:
    if run in sums:
        sums[run].add_(part)
    else:
        sums[run] = part
