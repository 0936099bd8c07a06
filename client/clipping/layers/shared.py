"""Per-example gradients of parameters that several layers share, or of a layer that a record uses several times.

A record's gradient is then the sum over the uses, whose terms may cancel. So it is instantiated before its norm is
computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import nn

from .base import PerExampleGradients
from .instantiated import InstantiatedGradients


def sum_of_uses(uses: Sequence[PerExampleGradients], rows: int) -> PerExampleGradients:
    """Return the gradients of `rows` records, each the sum of its gradients of these uses.

    Every record's gradient is a weighted sum in which all other records have factor zero.
    """
    each: dict[nn.Parameter, list[torch.Tensor]] = {}
    for row in range(rows):
        found: dict[nn.Parameter, list[torch.Tensor]] = {}
        for use in uses:
            chosen = torch.zeros(rows, dtype=torch.float64, device=use.squared_norms.device)
            chosen[row] = 1.0
            for parameter, part in use.weighted_sum(chosen):
                found.setdefault(parameter, []).append(part)
        for parameter, parts in found.items():
            each.setdefault(parameter, []).append(reduce(torch.add, parts))
    return InstantiatedGradients([(parameter, torch.stack(parts)) for parameter, parts in each.items()])
