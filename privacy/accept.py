"""Acceptance of a plan: device, server and command line turn a plan's text into its mechanism only here.

A plan is accepted if its keys follow the rules, its steps can be accounted for, the sums fit a ring, the rounds cost
no more than the budget, and the noise can be drawn. The checks use public facts alone and read no record.
"""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

from .errors import PlanError
from .mechanisms.base import Mechanism
from .mechanisms.choose import mechanism_of
from .plan.plan import Plan
from .plan.toml import AnyPlan, Counter, Tables, parse_plan, parse_tables

MOST_STEPS = 10**6
"""The most noised steps of one participant. Up to this number the accounting is exact enough and takes seconds."""


def check_steps(mechanism: Mechanism) -> None:
    """Refuse more than `MOST_STEPS` steps, before their cost is computed."""
    plan = mechanism.plan
    steps = plan.participations * plan.sums
    if steps <= MOST_STEPS:
        return
    raise PlanError(
        f"a client takes {steps} noised steps in {plan.participations} rounds, {MOST_STEPS} can be accounted for",
        "lower cohort.rounds or training.local_steps, or raise data.clients",
    )


def check_ring(mechanism: Mechanism) -> None:
    """Refuse a ring in which the cohort's sum would overflow, or whose grid would be too coarse."""
    grid = mechanism.grid
    step, coarsest = grid.step, grid.coarsest
    if step <= coarsest < math.inf:
        return
    raise PlanError(
        f"a ring of {grid.ring.bits} bits is too small: {mechanism.plan.cohort.size} devices leave steps of "
        f"{step:.3g}, the plan needs {coarsest:.3g}",
        "raise aggregation.bits or leave it out, or lower aggregation.range or cohort.size",
    )


def check_budget(mechanism: Mechanism) -> None:
    """Refuse more rounds than the budget allows."""
    plan, cost = mechanism.plan, mechanism.cost()
    if mechanism.budget.covers(cost):
        return
    raise PlanError(
        f"{plan.cohort.rounds} rounds at noise multiplier {mechanism.noise_multiplier:g} cost epsilon {cost:.4g}, "
        f"the budget is {plan.privacy.epsilon:g}",
        "lower cohort.rounds, raise privacy.epsilon, or leave privacy.noise_multiplier out to have it calibrated",
    )


def check_noise(mechanism: Mechanism) -> None:
    """Refuse noise that cannot be drawn on the plan's grid, before anything is charged."""
    if mechanism.can_make_noise:
        return
    raise PlanError(
        f"noise multiplier {mechanism.noise_multiplier:g} does not fit the grid that noise is added on",
        "bring it, aggregation.range and cohort.size nearer to usual values, or set privacy.shares = floor",
    )


CHECKS = (check_steps, check_ring, check_budget, check_noise)
"""The checks of a plan as a whole: each raises a PlanError if the plan fails it."""


def accept(plan: Plan) -> Mechanism:
    """Return the mechanism of a resolved plan. If the plan gives no noise multiplier, it is calibrated.

    Raises:
        PlanError: the plan is refused as a whole.
    """
    mechanism = mechanism_of(plan)
    if plan.privacy.noise_multiplier is None:
        check_steps(mechanism)
        mechanism = mechanism_of(plan.with_noise_multiplier(mechanism.noise_multiplier))
    for check in CHECKS:
        check(mechanism)
    return mechanism


@lru_cache(maxsize=8)
def accept_plan(text: str, count: Counter | None = None) -> Mechanism:
    """Return the mechanism of a deployment's plan, from its TOML text. The table `simulation` is ignored.

    `count` returns a network's number of parameters; a plan with another number is refused.

    Raises:
        PlanError: the plan has a fault, or is refused as a whole.
    """
    tables = parse_tables(text)
    tables.pop("simulation", None)
    return accept(parse_plan(tables, Plan, count=count))


@lru_cache(maxsize=8)
def accept_offer(text: str) -> Mechanism:
    """Return the mechanism of the plan that a server offers to a device.

    The plan must give its noise multiplier, because calibration takes a minute for some plans.

    Raises:
        PlanError: `accept_plan` refuses the plan, or the plan does not give its noise multiplier.
    """
    if "noise_multiplier" not in parse_tables(text).get("privacy", {}):
        raise PlanError("the plan does not say its noise multiplier", "offer the resolved plan")
    return accept_plan(text)


def accept_plan_file(path: Path, count: Counter | None = None) -> Mechanism:
    """Return the mechanism of the plan in a file, as a deployment reads it.

    Raises:
        PlanError: the file cannot be read, or `accept_plan` refuses its plan.
    """
    try:
        return accept_plan(path.read_text("utf-8"), count)
    except (OSError, UnicodeDecodeError) as fault:
        raise PlanError(f"cannot read the plan {path}", "give the path of a .toml plan") from fault


def make_plan(tables: Tables, kind: type[AnyPlan], name: str = "the plan", count: Counter | None = None) -> AnyPlan:
    """Return the resolved plan of these tables, if it is accepted.

    Raises:
        PlanError: the plan has a fault, or is refused as a whole. Messages call the plan `name`.
    """
    plan = parse_plan(tables, kind, name, count)
    noise_multiplier = accept(plan).noise_multiplier
    return plan.with_noise_multiplier(noise_multiplier)
