"""Curves of a plan: each point is what the accounting says of the plan that is meant there."""

from __future__ import annotations

import math

import pytest

from bract.privacy import Composed, Plan, Skellam, make_plan, mechanism_of
from bract.privacy.accounting.accountant import rdp_epsilon
from bract.privacy.planning.curves import (
    over_cohort,
    over_dropouts,
    over_noise,
    over_rounds,
    with_cohort,
)


def plan_of(noise: str = "distributed", unit: str = "record", **changes: dict[str, object]) -> Plan:
    tables: dict[str, dict[str, object]] = {
        "data": {"clients": 20},
        "model": {"parameters": 5_000},
        "training": {"batch_size": 200},
        "cohort": {"rounds": 40, "size": 10, "minimum": 3},
        "privacy": {"unit": unit, "noise": noise, "sampling_rate": 0.25 if unit == "record" else 1.0},
        "aggregation": {"protocol": "secagg", "colluders": 0.2, "dropouts": 0.3},
    }
    return make_plan({name: table | changes.get(name, {}) for name, table in tables.items()}, Plan)


def test_over_rounds_epsilon_grows_and_the_noise_stays() -> None:
    plan = plan_of()
    points = over_rounds(plan, [10, 20, 40, 80])
    assert [point.at for point in points] == [10, 20, 40, 80]
    assert {mechanism_of(point.plan).noise_multiplier for point in points} == {mechanism_of(plan).noise_multiplier}
    assert points[2].epsilons.server == pytest.approx(mechanism_of(plan).cost())
    for view in ("server", "released"):
        values = [point.epsilons.of(view) for point in points]
        assert values == sorted(set(values))


def test_a_point_over_rounds_composes_those_of_a_client() -> None:
    """A client is in some of all rounds."""
    plan = plan_of("central")
    [point] = over_rounds(plan, [80])
    assert point.epsilons.released == rdp_epsilon(((mechanism_of(plan).round_event, 40),), plan.privacy.delta)
    assert math.isinf(point.epsilons.server)


def test_over_the_cohort_the_batch_and_participations_grow() -> None:
    """A client takes part more often."""
    points = over_cohort(plan_of("central"), [5, 10, 20])
    assert [point.plan.participations for point in points] == [10, 20, 40]
    assert [point.plan.training.batch_size for point in points] == [100, 200, 400]
    assert [point.plan.cohort.minimum for point in points] == [3, 3, 3]
    values = [point.epsilons.released for point in points]
    assert values == sorted(set(values))


def test_a_devices_own_batch_does_not_grow_with_the_cohort() -> None:
    for plan in (plan_of("local"), plan_of(unit="client")):
        assert with_cohort(plan, 20).training.batch_size == plan.training.batch_size


def test_cohorts_that_a_plan_cannot_have_are_passed_over() -> None:
    assert [point.at for point in over_cohort(plan_of(), [1, 10, 21])] == [10]
    assert with_cohort(plan_of(), 21) is None
    assert with_cohort(plan_of(), 2).cohort.minimum == 2


def test_fewer_rounds_than_a_plan_has_bands_are_passed_over() -> None:
    plan = plan_of("central", "client", data={"clients": 200}, privacy={"unit": "client", "bands": 16})
    assert [point.at for point in over_rounds(plan, [8, 16, 40])] == [16, 40]


def test_over_noise_epsilon_falls_on_the_grid_of_the_noise() -> None:
    plan = plan_of()
    noise = mechanism_of(plan).noise_multiplier
    points = over_noise(plan, [noise / 2, noise, 4 * noise])
    values = [point.epsilons.server for point in points]
    assert values == sorted(set(values), reverse=True)
    assert points[1].epsilons.server == pytest.approx(mechanism_of(plan).cost())
    for point in points:
        assert mechanism_of(point.plan).plan == point.plan
        assert mechanism_of(point.plan).noise_multiplier == point.at


def test_another_noise_multiplier_leaves_nothing_of_the_old() -> None:
    plan = plan_of()
    assert mechanism_of(plan).grid.step  # computed, and kept
    other = plan.with_noise_multiplier(100 * mechanism_of(plan).noise_multiplier)
    fresh = plan_of(privacy={"unit": "record", "noise_multiplier": mechanism_of(other).noise_multiplier})
    assert mechanism_of(other).grid.step == mechanism_of(fresh).grid.step
    assert mechanism_of(other).server_event == mechanism_of(fresh).server_event


def test_a_point_over_dropouts_is_what_arrived_shares_cost() -> None:
    plan = plan_of(unit="client")
    points = over_dropouts(plan, range(plan.cohort.size + 1))
    assert [point.at for point in points] == pytest.approx([0.3, 0.2, 0.1, 0.0])
    variance = mechanism_of(plan).share_variance
    for point, left in zip(points, (7, 8, 9, 10), strict=True):
        shares = left - plan.colluders
        noise_multiplier = mechanism_of(plan).noise_multiplier * math.sqrt(shares / (7 - plan.colluders))
        event = Composed(Skellam(noise_multiplier, shares * variance), plan.participations)
        by_hand = rdp_epsilon(((event, 1),), plan.privacy.delta)
        assert point.epsilons.server == pytest.approx(by_hand, rel=1e-9)
        assert point.epsilons.released == pytest.approx(by_hand, rel=1e-9)
    assert points[0].epsilons.server == pytest.approx(mechanism_of(plan).cost())
