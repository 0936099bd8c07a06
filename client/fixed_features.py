"""The features of a device's records under the fixed part of a network: computed once, and kept."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from ..models import build, features_of, parts_of

if TYPE_CHECKING:
    from ..privacy import Plan

log = logging.getLogger("bract.client")

_KEPT = WeakTensorKeyDictionary()
"""Maps records, as long as they live, to a network (name, shape, classes) and the features that it makes of them."""


def kept_features(records: torch.Tensor, plan: Plan) -> torch.Tensor:
    """Return records [N, *shape] in the form that the trained part of the plan's network takes: secret.

    Features are kept while the tensor `records` lives, for one network at a time. So a round does not compute them
    again, and its time does not depend on the features.
    """
    network = plan.model.name, tuple(records.shape[1:]), plan.data.classes
    fixed = _fixed(*network, records.device)
    if fixed is None:
        return records
    found = _KEPT.get(records)
    if found is None or found[0] != network:
        found = _KEPT[records] = network, _features(fixed, records)
    return found[1]


def _features(fixed: nn.Module, records: torch.Tensor) -> torch.Tensor:
    """Return the features of records: NaN (for tokens, zero) for a record on which the fixed part fails.

    So whether a device answers does not depend on a record, and a failure on one record leaves the others unchanged.
    """
    try:
        return features_of(fixed, records)
    except Exception as fault:
        log.warning("the network's fixed part fails (%s), each record is passed alone", type(fault).__name__)
        return torch.cat([_alone(fixed, record) for record in records.split(1)])


def _alone(fixed: nn.Module, record: torch.Tensor) -> torch.Tensor:
    try:
        return features_of(fixed, record)
    except Exception as fault:
        log.warning("a record counts for nothing: the network's fixed part fails on it", exc_info=fault)
        blank = features_of(fixed, torch.zeros_like(record))
        return torch.full_like(blank, float("nan") if blank.is_floating_point() else 0)


@lru_cache(maxsize=4)
def _fixed(name: str, shape: tuple[int, ...], classes: int, device: torch.device) -> nn.Module | None:
    with torch.random.fork_rng(devices=[]):
        fixed, _ = parts_of(build(name, shape, classes))
    return None if fixed is None else fixed.to(device)
