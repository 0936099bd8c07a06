"""The features of a device's records under the fixed part of a network: computed once, and kept."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..models import build, features_of, parts_of

if TYPE_CHECKING:
    from ..privacy import Plan

_KEPT = WeakTensorKeyDictionary()
"""Maps records, as long as they live, to a network with its shape and to the features that it makes of them."""


def kept_features(records: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Return what the trained part of the plan's network sees of records [N, *shape]: secret, as the records are.

    Features are kept while the tensor `records` lives, for one network at a time. So a round does not compute them
    again, and its time does not depend on them.
    """
    network = plan.model.name, tuple(records.shape[1:])
    fixed = _fixed(*network, plan.data.classes, records.device)
    if fixed is None:
        return records
    found = _KEPT.get(records)
    if found is None or found[0] != network:
        found = _KEPT[records] = network, features_of(fixed, records)
    return found[1]


@lru_cache(maxsize=4)
def _fixed(name: str, shape: tuple[int, ...], classes: int, device: torch.device) -> nn.Module | None:
    with torch.random.fork_rng(devices=[]):
        fixed, _ = parts_of(build(name, shape, classes))
    return None if fixed is None else fixed.to(device)
