"""The choice of a plan's mechanism: the file of this folder that is named as the plan's `privacy.noise`.

The names are those of the plan's schema, so a plan loads no other file, whoever sent it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib import import_module
from typing import cast

from ..errors import PlanError
from ..plan.plan import Plan
from .base import Mechanism


@lru_cache(maxsize=64)
def mechanism_of(plan: Plan) -> Mechanism:
    """Return the mechanism of a plan. It is cached, so equal plans share one and its results.

    Raises:
        PlanError: the plan protects neither records nor clients.
    """
    p = plan.privacy
    if p.unit not in ("record", "client"):
        raise PlanError(f"privacy.unit = {p.unit} has no mechanism", "set privacy.unit to record or client")
    return cast(Mechanism, import_module(f".{p.noise}", __package__).mechanism(plan))
