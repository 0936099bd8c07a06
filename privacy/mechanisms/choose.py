"""Which mechanism a plan has: the one place where the name of a place of noise becomes code."""

from __future__ import annotations

from functools import lru_cache

from ..errors import PlanError
from ..plan.plan import Plan
from .banded import Banded
from .base import Mechanism
from .central import Central
from .distributed import Distributed
from .local import Local

MECHANISMS: dict[str, type[Mechanism]] = {"local": Local, "distributed": Distributed, "central": Central}
"""The mechanism of each `privacy.noise`."""


@lru_cache(maxsize=64)
def mechanism_of(plan: Plan) -> Mechanism:
    """Return the mechanism of a plan; equal plans share one, so that what it computes is computed once.

    Raises:
        PlanError: the plan protects neither records nor clients.
    """
    if plan.privacy.unit not in ("record", "client"):
        what = f"privacy.unit = {plan.privacy.unit} has no mechanism"
        raise PlanError(what, "set privacy.unit to record or client")
    kind = MECHANISMS[plan.privacy.noise]
    return Banded(plan) if kind is Central and plan.correlated else kind(plan)
