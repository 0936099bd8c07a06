"""The choice of a plan's mechanism: only this file maps `privacy.noise` to a class."""

from __future__ import annotations

from functools import lru_cache

from ..errors import PlanError
from ..plan.plan import Plan
from .base import Mechanism
from .central import Banded, Central
from .distributed import Distributed
from .local import Local

MECHANISMS: dict[str, type[Mechanism]] = {"local": Local, "distributed": Distributed, "central": Central}
"""The mechanism for each value of `privacy.noise`."""


@lru_cache(maxsize=64)
def mechanism_of(plan: Plan) -> Mechanism:
    """Return the mechanism of a plan. It is cached, so equal plans share one and its results.

    Raises:
        PlanError: the plan protects neither records nor clients.
    """
    if plan.privacy.unit not in ("record", "client"):
        what = f"privacy.unit = {plan.privacy.unit} has no mechanism"
        raise PlanError(what, "set privacy.unit to record or client")
    kind = MECHANISMS[plan.privacy.noise]
    return Banded(plan) if kind is Central and plan.correlated else kind(plan)
