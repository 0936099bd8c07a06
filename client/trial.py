"""The trial of a network on made-up records, before a device reads its own: its errors cannot depend on the data."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import nn

from ..models import NoNetworkError, StartError, check_fixed, features_of, objective_of
from ..privacy import BractError, PlanError
from .records import Records

ROWS = 2
"""The number of made-up records. The first record has the smallest token and label, the last record has the next
larger ones."""


def example(
    name: str, shape: tuple[int, ...], classes: int, device: torch.device, fixed: nn.Module | None = None
) -> Records:
    """Return made-up records for the network, as its trained part sees them, with its targets as labels.

    Raises:
        ValueError: the fixed part must not be used; see `check_fixed`.
    """
    learns = objective_of(name, shape)
    features, labels = learns.example(shape, classes, ROWS)
    check_fixed(fixed, features.to(device))
    return Records(features_of(fixed, features.to(device)), learns.targets(features, labels).to(device))


@contextmanager
def tried(name: str) -> Generator[None]:
    """Turn every exception of the network into a `PlanError`."""
    try:
        yield
    except BractError:
        raise
    except NoNetworkError as fault:
        raise PlanError(fault.what, fault.hint) from fault
    except StartError as fault:
        raise PlanError(f"{name} cannot be trained: {fault}", fault.hint) from fault
    except Exception as fault:
        what = str(fault).strip().partition("\n")[0] or type(fault).__name__
        raise PlanError(f"{name} cannot be trained: {what}", "set data.shape and data.classes to match it") from fault
