"""What plans cost and what budgets buy: figures by hand, and answers that undo one another."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bract.privacy import Composed, Gaussian, Plan, PlanError, PoissonSampled, make_plan, mechanism_of
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.planning.bounds import bound, participations
from bract.privacy.planning.cost import cost, most_rounds, with_noise, with_target

DELTA = 1e-5


def plan_of(
    noise_multiplier: float | None = 8.0,
    rounds: int = 16,
    size: int = 5,
    clients: int = 5,
    noise: str = "central",
    unit: str = "client",
    rate: float = 1.0,
    target: float = 1e6,
    **aggregation: object,
) -> Plan:
    privacy = {"unit": unit, "noise": noise, "sampling_rate": rate, "epsilon": target, "delta": DELTA}
    if noise_multiplier is not None:
        privacy["noise_multiplier"] = noise_multiplier
    if noise == "distributed":
        aggregation = {"protocol": "secagg", **aggregation}
    cohort = {"rounds": rounds, "size": size}
    tables = {"data": {"clients": clients}, "cohort": cohort, "privacy": privacy, "aggregation": aggregation}
    return make_plan(tables | {"model": {"parameters": 10_000}}, Plan)


def delta_of(mu: float, eps: float) -> float:
    """The delta of mu-GDP at epsilon (Balle, Wang 2018, theorem 8), by the error function alone."""

    def below(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    return below(mu / 2 - eps / mu) - math.exp(eps) * below(-mu / 2 - eps / mu)


def test_sixteen_rounds_cost_one_of_a_quarter_of_the_noise() -> None:
    """Unsampled rounds of a Gaussian."""
    found = cost(plan_of(8.0, rounds=16))
    assert math.isinf(found.server)
    assert delta_of(0.5, found.released) == pytest.approx(DELTA, rel=0.02)
    assert delta_of(0.5, found.released) <= DELTA


def test_what_a_plan_costs_is_what_the_plan_says_it_costs() -> None:
    plan = plan_of(None, noise="distributed", rounds=30, size=10, clients=20, target=4.0)
    found = cost(plan)
    assert found.server == mechanism_of(plan).cost()
    assert found.of("server") == found.server
    assert 3.9 < found.server <= 4.0
    assert found.released == found.server


def test_local_noise_costs_the_same_in_both_views() -> None:
    found = cost(plan_of(6.0, noise="local"))
    assert found.server == found.released < math.inf


def test_records_are_charged_for_their_clients_rounds() -> None:
    """For sampled steps of the rounds that a client is in."""
    plan = plan_of(1.2, rounds=40, size=5, clients=20, unit="record", rate=0.1)
    by_hand = epsilon(Composed(PoissonSampled(0.1, Gaussian(1.2)), 10), DELTA)
    assert cost(plan).released == pytest.approx(by_hand, rel=1e-9)


@pytest.mark.parametrize(("rounds", "times"), [(1, 1), (4, 1), (5, 2), (40, 10)])
def test_a_client_of_four_cohorts_is_in_every_fourth_round(rounds: int, times: int) -> None:
    assert participations(plan_of(size=5, clients=20), rounds) == times


def test_the_bound_lies_above_the_cost_and_not_far() -> None:
    plan = plan_of(1.2, rounds=40, unit="record", rate=0.1)
    assert cost(plan).released < bound(plan).released < 1.6 * cost(plan).released
    assert bound(plan, 10).released < bound(plan).released


@pytest.mark.parametrize("noise", ["central", "local", "distributed"])
@pytest.mark.parametrize("target", [0.5, 3.0])
def test_noise_for_an_epsilon_costs_that_epsilon(noise: str, target: float) -> None:
    plan = plan_of(noise=noise)
    view = mechanism_of(plan).budget.view
    calibrated = with_target(plan, target)
    assert 0.99 * target <= cost(calibrated).of(view) <= target
    assert cost(with_noise(plan, mechanism_of(calibrated).noise_multiplier)).of(view) <= target


@pytest.mark.parametrize("noise", ["central", "distributed"])
@pytest.mark.parametrize("noise_multiplier", [2.0, 9.0])
def test_the_epsilon_of_a_noise_takes_that_noise(noise: str, noise_multiplier: float) -> None:
    plan = with_noise(plan_of(noise=noise), noise_multiplier)
    paid = cost(plan).of(mechanism_of(plan).budget.view)
    assert mechanism_of(with_target(plan, paid)).noise_multiplier == pytest.approx(noise_multiplier, rel=5e-3)


@pytest.mark.parametrize("noise", ["central", "distributed"])
@pytest.mark.parametrize("rounds", [1, 2, 7, 100, 640])
def test_the_cost_of_some_rounds_buys_those_rounds(noise: str, rounds: int) -> None:
    plan = plan_of(noise=noise, unit="record", rate=0.2, noise_multiplier=1.5)
    bought = most_rounds(plan, cost(plan, rounds).of(mechanism_of(plan).budget.view))
    assert bought.rounds == bought.participations == rounds


@settings(max_examples=15)
@given(target=st.floats(1.0, 60.0), rate=st.sampled_from([0.05, 1.0]))
def test_bought_rounds_fit_the_budget_and_the_next_do_not(target: float, rate: float) -> None:
    plan = plan_of(4.0, unit="record", rate=rate)
    bought = most_rounds(plan, target)
    assert cost(plan, bought.rounds).released == bought.epsilon <= target
    assert bought.dearer is not None
    assert bought.dearer_epsilon is not None
    assert bought.dearer_epsilon > target
    assert bought.rounds < bought.dearer <= bought.rounds + max(1, 0.001 * bought.rounds)


def test_more_budget_buys_no_fewer_rounds() -> None:
    plan = plan_of(6.0)
    bought = [most_rounds(plan, target).rounds for target in (1.0, 1.1, 2.0, 4.0, 8.0, 30.0)]
    assert bought == sorted(bought)
    assert bought[0] < bought[-1]


def test_a_client_of_four_cohorts_sees_four_times_the_rounds() -> None:
    few, many = most_rounds(plan_of(6.0), 3.0), most_rounds(plan_of(6.0, clients=20), 3.0)
    assert many.participations == few.participations
    assert many.rounds == 4 * few.rounds


def test_no_plan_has_more_than_ten_million_rounds() -> None:
    bought = most_rounds(plan_of(9e3), 8.0)
    assert bought.rounds == 10**7
    assert bought.dearer is bought.dearer_epsilon is None


@pytest.mark.parametrize("target", [0.0, -1.0, math.nan, math.inf, 1e-3])
def test_a_target_that_buys_no_round_is_refused(target: float) -> None:
    with pytest.raises(PlanError) as caught:
        most_rounds(plan_of(1.0), target)
    assert len(str(caught.value).splitlines()) == 2


def test_impossible_noise_and_targets_are_refused() -> None:
    with pytest.raises(PlanError):
        with_target(plan_of(), 1e-12)
    with pytest.raises(PlanError):
        with_noise(plan_of(), 0.0)
