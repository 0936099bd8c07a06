"""How a plan's epsilons change with its rounds, its cohort, its noise and dropouts, as Renyi bounds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..mechanisms.choose import mechanism_of
from ..plan.plan import Plan
from ..plan.rules import RULES
from ..plan.schema import Section
from .bounds import Epsilons, bound


@dataclass(frozen=True)
class CurvePoint:
    """A point of a curve: its position on the axis, the plan at this point, and the Renyi bounds on its cost."""

    at: float
    plan: Plan
    epsilons: Epsilons


def over_rounds(plan: Plan, rounds: Iterable[int]) -> tuple[CurvePoint, ...]:
    """Return the bounds for each number of rounds, at the plan's noise. Numbers that break a rule are left out."""
    plans = ((number, _sound(_with(plan, cohort={"rounds": number}))) for number in rounds)
    return tuple(CurvePoint(number, other, bound(other)) for number, other in plans if other is not None)


def over_cohort(plan: Plan, sizes: Iterable[int]) -> tuple[CurvePoint, ...]:
    """Return the bounds for each size of the cohort, at the plan's noise multiplier; without sizes that break a rule.

    If the batch is over the whole cohort, it grows with the cohort, because each client keeps its records.
    """
    plans = ((size, with_cohort(plan, size)) for size in sizes)
    return tuple(CurvePoint(size, other, bound(other)) for size, other in plans if other is not None)


def over_noise(plan: Plan, noise_multipliers: Iterable[float]) -> tuple[CurvePoint, ...]:
    """Return the bounds for each noise multiplier. The plan's budget is ignored."""
    plans = ((noise, plan.with_noise_multiplier(noise)) for noise in noise_multipliers)
    return tuple(CurvePoint(noise, other, bound(other)) for noise, other in plans)


def over_dropouts(plan: Plan, survivors: Iterable[int]) -> tuple[CurvePoint, ...]:
    """Return the bounds for each number of survivors in every round; `at` is the fraction that dropped out.

    Numbers below `Plan.least_survivors` are left out: their sum is not unmasked and costs nothing.
    """
    size = plan.cohort.size
    left = (number for number in survivors if plan.least_survivors <= number <= size)
    return tuple(CurvePoint(1 - number / size, plan, bound(plan, survivors=number)) for number in left)


def with_cohort(plan: Plan, size: int) -> Plan | None:
    """Return the plan with another size of the cohort and the same noise multiplier; None if it breaks a rule."""
    cohort: dict[str, int] = {"size": size, "minimum": min(plan.cohort.minimum, size)}
    if plan.privacy.unit == "client" or plan.privacy.noise == "local":
        return _sound(_with(plan, cohort=cohort))
    batch = max(1, round(plan.training.batch_size * size / plan.cohort.size))
    return _sound(_with(plan, cohort=cohort, training={"batch_size": batch}))


def _sound(plan: Plan) -> Plan | None:
    return None if any(rule(_sections(plan)) for rule in RULES) else plan


def _sections(plan: Plan) -> dict[str, Section]:
    return {name: getattr(plan, name) for name in Plan.model_fields}


def _with(plan: Plan, **changes: dict[str, int]) -> Plan:
    """Return the plan with some keys changed and its noise multiplier filled in."""
    sections = _sections(plan.with_noise_multiplier(mechanism_of(plan).noise_multiplier))
    changed = {name: sections[name].model_copy(update=keys) for name, keys in changes.items()}
    return Plan(**(sections | changed))  # pyright: ignore[reportArgumentType]
