"""The sum over batches in float64, almost as fast as in the dtype of each batch's sum."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

BATCHES = 8
"""The number of batches whose sums are added in their own dtype before they are added in float64."""

Parameters = tuple[nn.Parameter, ...]
"""Parameters whose sums are concatenated in one tensor [numbers]. The sum for one parameter may keep that parameter's
shape."""

PartialSum = tuple[Parameters, torch.Tensor]
"""The sum over some records, for these parameters, in one tensor."""


class Accumulator:
    """The total of partial sums, in the order of the parameters. Parameters that are not trained have zeros."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self._all: Parameters = tuple(parameters)
        self._recent: dict[Parameters, torch.Tensor] = {}
        self._exact: dict[Parameters, torch.Tensor] = {}
        self._added = 0

    def add(self, sums: Iterable[PartialSum]) -> None:
        """Add a batch's partial sums. Their tensors may be overwritten afterwards."""
        for parameters, part in sums:
            if parameters[0].requires_grad:
                same = part.dtype == parameters[0].dtype
                _add_to(self._recent if same else self._exact, parameters, part)
        self._added += 1
        if self._added % BATCHES == 0:
            self._add_recent()

    def _add_recent(self) -> None:
        """Add the recent batches' sums to the sums in float64."""
        for parameters, part in self._recent.items():
            _add_to(self._exact, parameters, part.double())
        self._recent.clear()

    def total(self) -> NDArray[np.float64]:
        """Return the sum, float64 [parameters]."""
        if self._all in self._recent and len(self._recent) == 1 and not self._exact:
            return self._recent[self._all].flatten().double().cpu().numpy()
        sizes = [parameter.numel() for parameter in self._all]
        vector = torch.empty(sum(sizes), dtype=torch.float64, device=self._all[0].device)
        unset = dict(zip(self._all, vector.split(sizes), strict=True))
        slots, parts = unset.copy(), [*self._recent.items(), *self._exact.items()]
        for parameters, part in parts:
            for parameter, piece in zip(
                parameters, part.flatten().split([p.numel() for p in parameters]), strict=True
            ):
                write = slots[parameter].copy_ if unset.pop(parameter, None) is not None else slots[parameter].add_
                write(piece)
        for slot in unset.values():
            slot.zero_()
        return vector.cpu().numpy()


def _add_to(sums: dict[Parameters, torch.Tensor], parameters: Parameters, part: torch.Tensor) -> None:
    if parameters in sums:
        sums[parameters].add_(part)
    else:
        sums[parameters] = part
