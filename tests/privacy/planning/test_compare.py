"""What each accountant says of one plan: which is charged, which is proven, and that closed forms agree."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, make_plan, mechanism_of
from bract.privacy.planning.bounds import bound
from bract.privacy.planning.compare import accountants, gaussian_epsilon

DELTA = 1e-5


def plan_of(
    noise_multiplier: float, rounds: int = 16, noise: str = "central", unit: str = "client", rate: float = 1.0
) -> Plan:
    privacy = {"unit": unit, "noise": noise, "sampling_rate": rate, "delta": DELTA}
    tables: dict[str, dict[str, object]] = {
        "data": {"clients": 5},
        "model": {"parameters": 10_000},
        "cohort": {"rounds": rounds, "size": 5},
        "privacy": privacy | {"noise_multiplier": noise_multiplier, "epsilon": 1e12},
        "aggregation": {"protocol": "secagg"},
    }
    return make_plan(tables, Plan)


def delta_of(mu: float, eps: float) -> float:
    """The delta of mu-GDP at epsilon (Balle, Wang 2018, theorem 8), by the error function alone."""

    def below(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    return below(mu / 2 - eps / mu) - math.exp(eps) * below(-mu / 2 - eps / mu)


def test_gaussian_noise_is_charged_by_its_loss_distribution() -> None:
    """The closed form agrees."""
    plan = plan_of(8.0)
    pld, rdp, gdp = accountants(plan)
    assert (pld.accountant, rdp.accountant, gdp.accountant) == ("pld", "rdp", "gdp")
    assert (pld.standing, rdp.standing, gdp.standing) == ("reported", "bound", "bound")
    assert pld.epsilon == mechanism_of(plan).cost()
    assert rdp.epsilon == pytest.approx(bound(plan).released)
    assert gdp.epsilon == pytest.approx(pld.epsilon, rel=0.005)
    assert gdp.epsilon <= pld.epsilon <= rdp.epsilon


def test_of_sampled_steps_the_central_limit_is_no_bound() -> None:
    pld, _, gdp = accountants(plan_of(0.8, rounds=100, unit="record", rate=0.02))
    assert gdp.standing == "estimate"
    assert "no bound" in gdp.why
    assert gdp.epsilon < pld.epsilon


def test_skellam_noise_is_charged_by_the_renyi_bound() -> None:
    """Nothing else is proven."""
    plan = plan_of(8.0, noise="distributed")
    rdp, pld, gdp = accountants(plan)
    assert (rdp.accountant, rdp.standing, rdp.epsilon) == ("rdp", "reported", mechanism_of(plan).cost())
    assert pld.standing == gdp.standing == "estimate"
    assert pld.epsilon < rdp.epsilon


def test_where_nobody_is_protected_the_renyi_bound_is_charged() -> None:
    rdp, gdp = accountants(plan_of(1e-3))
    assert (rdp.accountant, rdp.standing) == ("rdp", "reported")
    assert gdp.epsilon is None


@given(mu=st.floats(0.05, 30.0), delta=st.sampled_from([1e-9, 1e-5, 1e-3]))
def test_gaussian_privacy_has_the_delta_asked_for(mu: float, delta: float) -> None:
    """The delta is that of its epsilon."""
    found = gaussian_epsilon(mu, delta)
    assert found is not None
    if found < 600:  # e^epsilon of the formula by hand is a float
        assert delta_of(mu, found) == pytest.approx(delta, rel=1e-3, abs=1e-13)
    assert gaussian_epsilon(1e-9, delta) == 0.0
