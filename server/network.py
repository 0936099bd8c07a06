"""The server's check that devices can train a plan's network, before it asks them."""

from __future__ import annotations

from ..models import NoNetworkError, check_network
from ..privacy import Plan, PlanError


def check_trainable(plan: Plan) -> None:
    """Refuse a plan whose network no device could train.

    Raises:
        PlanError: the network cannot be trained on the plan's kind of records, or not by the plan's engine.
    """
    network, asked = (plan.model.name, plan.data.shape, plan.data.classes), plan.training.engine == "opacus"
    try:
        check_network(*network, by_opacus=asked and plan.privacy.unit == "record", start=plan.model.start)
    except NoNetworkError as fault:
        raise PlanError(fault.what, fault.hint) from fault
    except ValueError as fault:
        hint = "set training.engine to auto" if asked else "choose another model.name, or set data.shape to match it"
        raise PlanError(str(fault), getattr(fault, "hint", hint)) from fault
