"""How a plan's epsilons change with its rounds, its cohort, its noise and dropouts: Renyi bounds throughout.

They lie above the figures that are charged, by about a tenth where the noise is Gaussian, and not at all where it is
Skellam; they take a hundredth of the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..mechanisms.choose import mechanism_of
from ..plan.plan import Plan
from ..plan.rules import RULES
from ..plan.schema import Section
from .cost import Epsilons, bound


@dataclass(frozen=True)
class Point:
    """A point of a curve: where it is on its axis, the plan that is meant there, and the Renyi bounds on its cost."""

    at: float
    plan: Plan
    epsilons: Epsilons


def over_rounds(plan: Plan, rounds: Iterable[int]) -> tuple[Point, ...]:
    """Return the bounds after so many rounds each, at the plan's noise; unsound numbers are passed over."""
    plans = ((number, _sound(_with(plan, cohort={"rounds": number}))) for number in rounds)
    return tuple(Point(number, other, bound(other)) for number, other in plans if other is not None)


def over_cohort(plan: Plan, sizes: Iterable[int]) -> tuple[Point, ...]:
    """Return the bounds for cohorts of such sizes at the plan's noise multiplier; unsound sizes are passed over.

    Where a batch is the whole cohort's it grows with it, for each client has as many records as before.
    """
    plans = ((size, with_cohort(plan, size)) for size in sizes)
    return tuple(Point(size, other, bound(other)) for size, other in plans if other is not None)


def over_noise(plan: Plan, noise_multipliers: Iterable[float]) -> tuple[Point, ...]:
    """Return the bounds for such noise multipliers; each plan is as it would be but for its budget."""
    plans = ((noise, with_noise_multiplier(plan, noise)) for noise in noise_multipliers)
    return tuple(Point(noise, other, bound(other)) for noise, other in plans)


def over_dropouts(plan: Plan, survivors: Iterable[int]) -> tuple[Point, ...]:
    """Return the bounds if so many devices of the cohort are left in every round; `at` is the share that is not.

    Fewer than `Plan.least_survivors` are passed over: their sum is not opened, so it costs nothing.
    """
    size = plan.cohort.size
    left = (number for number in survivors if plan.least_survivors <= number <= size)
    return tuple(Point(1 - number / size, plan, bound(plan, survivors=number)) for number in left)


def with_noise_multiplier(plan: Plan, noise_multiplier: float) -> Plan:
    """Return the plan with another noise multiplier; whether its budget covers that is not looked at."""
    return _with(plan, privacy={"noise_multiplier": noise_multiplier})


def with_cohort(plan: Plan, size: int) -> Plan | None:
    """Return the plan with another size of the cohort and the same noise multiplier; None if it is unsound."""
    cohort: dict[str, int] = {"size": size, "minimum": min(plan.cohort.minimum, size)}
    if plan.privacy.unit == "client" or plan.privacy.noise == "local":
        return _sound(_with(plan, cohort=cohort))
    batch = max(1, round(plan.training.batch_size * size / plan.cohort.size))
    return _sound(_with(plan, cohort=cohort, training={"batch_size": batch}))


def _sound(plan: Plan) -> Plan | None:
    return None if any(rule(_sections(plan)) for rule in RULES) else plan


def _sections(plan: Plan) -> dict[str, Section]:
    return {name: getattr(plan, name) for name in Plan.model_fields}


def _with(plan: Plan, **changes: dict[str, int] | dict[str, float]) -> Plan:
    """Return the plan with some keys changed, its noise multiplier written out."""
    sections = _sections(plan.with_noise_multiplier(mechanism_of(plan).noise_multiplier))
    changed = {name: sections[name].model_copy(update=keys) for name, keys in changes.items()}
    return Plan(**(sections | changed))  # pyright: ignore[reportArgumentType]
