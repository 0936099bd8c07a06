"""Figures of the Renyi bound against other accountants, a published bound and the Gaussian that Skellam nears."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from hypothesis import given
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp
from scipy.special import logsumexp

from bract.models import count_parameters
from bract.privacy import (
    Composed,
    Event,
    Gaussian,
    Plan,
    PoissonSampled,
    Skellam,
    Unbounded,
    make_plan,
    mechanism_of,
    read_tables,
)
from bract.privacy.accounting.accountant import ORDERS, epsilon, pld_epsilon, rdp_epsilon, renyi, spent

EXPERIMENTS = Path(__file__).parents[3] / "simulations" / "experiments"
SOME = [2, 3, 5, 8, 17, 32, 64, 256, 2048]
Curve = Callable[[Any], float]


def shipped(name: str, *changes: tuple[str, str, Any]) -> Plan:
    """A plan that comes with the package, with some keys changed."""
    tables = read_tables(EXPERIMENTS / f"{name}.toml")
    tables.pop("simulation", None)
    for table, key, value in changes:
        tables.setdefault(table, {})[key] = value
    return make_plan(tables, Plan, count=count_parameters)


DIGITS, FASHION = "digits-distributed-eps8", "fashion-distributed-eps3"
PLANS = [
    (DIGITS, ()),
    (DIGITS, (("privacy", "epsilon", 1.0),)),
    (DIGITS, (("aggregation", "dropouts", 0.4),)),
    (DIGITS, (("privacy", "sampling_rate", 1.0), ("cohort", "rounds", 10))),
    (FASHION, ()),
    (FASHION, (("privacy", "epsilon", 8.0), ("privacy", "delta", 1e-7))),
    (FASHION, (("privacy", "unit", "client"), ("privacy", "sampling_rate", 1.0), ("data", "clients", 5000))),
]
plans = pytest.mark.parametrize(("name", "changes"), PLANS, ids=str)


def cheapest(curve: Curve, delta: float, orders: Sequence[float] = ORDERS) -> float:
    """The least epsilon of a Renyi curve: Canonne, Kamath and Steinke 2020, proposition 12, written anew."""
    return min(
        curve(order) + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1) for order in orders
    )


def amplified(curve: Curve, rate: float) -> Curve:
    """The curve under Poisson sampling: the logarithm of the a-th moment of 1 - q + q L, term by term."""

    def at(order: int) -> float:
        terms = [
            math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
            + (order - k) * math.log1p(-rate) + k * math.log(rate) + ((k - 1) * curve(k) if k > 1 else 0.0)
            for k in range(order + 1)
        ]  # fmt: skip
        return float(logsumexp(terms)) / (order - 1)

    return at if rate < 1 else curve


def noised_sum(plan: Plan) -> Skellam:
    """What devices share the noise of in a round that the fewest survive."""
    event = mechanism_of(plan).server_event
    assert isinstance(event, Composed)
    inner = event.event.event if isinstance(event.event, PoissonSampled) else event.event
    assert isinstance(inner, Skellam)
    return inner


def figure(plan: Plan, curve: Curve) -> float:
    """The epsilon of the whole plan if one noised sum had this curve, by means of this file alone."""
    rate, rounds = plan.privacy.sampling_rate, plan.participations
    whole = amplified(curve, rate)
    return cheapest(lambda order: rounds * whole(order), plan.privacy.delta, ORDERS[:40])


# Skellam noise


def test_a_value_by_hand() -> None:
    """Variance 100 at half the deviation: 25 steps squared; r = 2 / 200 + 9 / 40,000."""
    assert renyi(Skellam(2.0, 100.0), 2) == pytest.approx(25 * 0.010225 * 1.010225, rel=1e-12)
    assert renyi(Composed(Skellam(2.0, 100.0), 7), 2) == pytest.approx(7 * 25 * 0.010225 * 1.010225, rel=1e-12)


@plans
def test_the_published_bound_is_hardly_below_ours(name: str, changes: Any) -> None:
    """Agarwal et al. 2021, corollary 3.6, at the same sensitivity, and at the larger one of bounded rounding."""
    plan = shipped(name, *changes)
    variance, steps = noised_sum(plan).variance, plan.privacy.clip_norm / mechanism_of(plan).grid.step
    dimension = mechanism_of(plan).coordinates(plan.parameters)

    def published(square: float) -> Curve:
        first = math.sqrt(square) * min(math.sqrt(dimension), math.sqrt(square))
        return lambda order: (
            order * square / (2 * variance)
            + min(
                ((2 * order - 1) * square + 6 * first) / (4 * variance**2),
                3 * first / (2 * variance),
            )
        )

    same = steps**2 + dimension / 4
    theirs = min(same + steps + math.sqrt(dimension) / 2, (steps + math.sqrt(dimension)) ** 2)
    found = mechanism_of(plan).cost()
    assert found <= figure(plan, published(same)) + 1e-3
    assert found <= figure(plan, published(theirs))
    assert found == pytest.approx(figure(plan, published(same)), rel=0.01)


def gaussian_figure(rate: float, noise_multiplier: float, rounds: int, delta: float) -> float:
    """The epsilon by Opacus' curve at whole orders and chords between them, composed by this file."""
    whole = [float(order) for order in range(2, 257)]
    curve = compute_rdp(q=rate, noise_multiplier=noise_multiplier, steps=rounds, orders=whole)
    moments = [0.0, *(np.array(whole) - 1) * np.asarray(curve)]
    at = lambda order: float(np.interp(order, [1.0, *whole], moments)) / (order - 1)  # noqa: E731
    return cheapest(at, delta, [*np.arange(1.125, 16, 0.125).tolist(), *ORDERS[:40]])


@plans
def test_a_plans_figure_is_near_that_of_a_gaussian(name: str, changes: Any) -> None:
    """Within a ten thousandth of a Gaussian of its noise."""
    plan = shipped(name, *changes)
    noise, privacy = noised_sum(plan), plan.privacy
    found = gaussian_figure(privacy.sampling_rate, noise.noise_multiplier, plan.participations, privacy.delta)
    assert noise.variance >= 1e6
    assert found <= mechanism_of(plan).cost() <= found * (1 + 1e-4)


@pytest.mark.parametrize(("variance", "error"), [(1e5, 1e-3), (1e6, 1e-4), (1e7, 1e-5)])
@pytest.mark.parametrize(
    ("rate", "noise_multiplier", "rounds", "delta"), [(1.0, 10.0, 100, 1e-6), (0.01, 1.0, 1000, 1e-5)]
)
def test_the_figure_nears_a_gaussians_as_the_variance_grows(
    rate: float, noise_multiplier: float, rounds: int, delta: float, variance: float, error: float
) -> None:
    found = epsilon(steps(rate, Skellam(noise_multiplier, variance), rounds), delta)
    gaussian = gaussian_figure(rate, noise_multiplier, rounds, delta)
    assert gaussian < found < gaussian + error


@pytest.mark.parametrize("order", SOME)
@pytest.mark.parametrize("noise_multiplier", [0.5, 3.0, 50.0])
@pytest.mark.parametrize("rate", [0.01, 0.5, 1.0])
def test_vast_variance_is_the_gaussian(noise_multiplier: float, order: int, rate: float) -> None:
    event, limit = (PoissonSampled(rate, e) for e in (Skellam(noise_multiplier, 1e15), Gaussian(noise_multiplier)))
    assert renyi(event, order) == pytest.approx(renyi(limit, order), rel=1e-6)
    assert renyi(event, order) >= renyi(limit, order)


@given(st.floats(0.3, 100), st.floats(1, 1e9), st.floats(1, 100), st.sampled_from(SOME[:6]))
def test_more_variance_or_a_larger_multiplier_cost_less(
    noise_multiplier: float, variance: float, factor: float, order: int
) -> None:
    """The variance grows at one multiplier."""
    found = renyi(Skellam(noise_multiplier, variance), order)
    assert renyi(Skellam(noise_multiplier, variance * factor), order) <= found * (1 + 1e-12)
    assert renyi(Skellam(noise_multiplier * factor, variance), order) <= found * (1 + 1e-12)
    assert renyi(Gaussian(noise_multiplier), order) <= found * (1 + 1e-12)


# Gaussians by other accountants

SAMPLED = [(0.001, 0.7), (0.01, 1.0), (0.1, 2.0), (0.5, 0.8), (0.5, 6.0), (0.9, 3.0), (1.0, 1.0), (1.0, 9.0)]


@pytest.mark.parametrize(("rate", "noise_multiplier"), SAMPLED)
def test_the_sampled_curve_is_that_of_two_other_libraries(rate: float, noise_multiplier: float) -> None:
    """Of sampled Gaussians, by dp-accounting and by Opacus."""
    ours = [renyi(PoissonSampled(rate, Gaussian(noise_multiplier)), order) for order in SOME]
    accountant = RdpAccountant(SOME)
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)))
    np.testing.assert_allclose(ours, accountant.rdp, rtol=1e-6)
    opacus = compute_rdp(q=rate, noise_multiplier=noise_multiplier, steps=1, orders=[float(a) for a in SOME[:-1]])
    np.testing.assert_allclose(ours[:-1], opacus, rtol=1e-6)  # at 2,048 it has no number


@pytest.mark.parametrize("noise_multiplier", [1e4, 1e7, 1e10, 1e100])
def test_hardly_any_loss_is_not_lost_in_rounding(noise_multiplier: float) -> None:
    """At order 2 the excess of the moment is q^2 / z^2."""
    found = renyi(PoissonSampled(0.1, Gaussian(noise_multiplier)), 2)
    assert found == pytest.approx(0.01 / noise_multiplier**2, rel=1e-6)


SETTINGS = [
    # sampling rate, noise multiplier, steps, delta
    (0.01, 1.0, 1000, 1e-5),
    (0.0125, 0.83, 400, 1e-5),
    (0.02, 4.0, 100, 1e-6),
    (0.25, 4.0, 60, 1e-4),
    (0.5, 3.0, 100, 1e-4),
    (1.0, 1.0, 1, 1e-5),
    (1.0, 10.0, 100, 1e-6),
    (1.0, 0.4, 2, 1e-3),
]
figures = pytest.mark.parametrize(("rate", "noise_multiplier", "count", "delta"), SETTINGS)


def steps(rate: float, inner: Event, count: int) -> Event:
    return Composed(PoissonSampled(rate, inner), count)


@figures
def test_orders_between_whole_ones_never_raise_the_bound(
    rate: float, noise_multiplier: float, count: int, delta: float
) -> None:
    event = steps(rate, Gaussian(noise_multiplier), count)
    accountant = RdpAccountant(ORDERS)
    accountant.compose(PoissonSampledDpEvent(rate, GaussianDpEvent(noise_multiplier)), count)
    assert rdp_epsilon(((event, 1),), delta) <= accountant.get_epsilon(delta) * (1 + 1e-9)


@figures
def test_orders_between_whole_ones_keep_the_bound_safe(
    rate: float, noise_multiplier: float, count: int, delta: float
) -> None:
    """The exact one, at orders an eighth apart, by Opacus."""
    orders = [*np.arange(1.125, 33, 0.125).tolist(), *(float(order) for order in ORDERS[31:40])]
    curve = compute_rdp(q=rate, noise_multiplier=noise_multiplier, steps=count, orders=orders)
    exact = cheapest(dict(zip(orders, np.asarray(curve), strict=True)).__getitem__, delta, orders)
    found = rdp_epsilon(((steps(rate, Gaussian(noise_multiplier), count), 1),), delta)
    assert exact * (1 - 1e-9) <= found <= exact * 1.02


@figures
def test_the_bound_is_never_below_the_loss_distribution(
    rate: float, noise_multiplier: float, count: int, delta: float
) -> None:
    """The events are sampled Gaussians."""
    events = ((steps(rate, Gaussian(noise_multiplier), count), 1),)
    assert pld_epsilon(events, delta, 1e-4) <= rdp_epsilon(events, delta)


@pytest.mark.parametrize("name", [DIGITS, FASHION])
def test_shared_noise_costs_a_little_more_than_a_gaussian(name: str) -> None:
    """For lack of a loss distribution for it: a tenth where much is sampled, a quarter where little is."""
    plan = shipped(name)
    gaussian = steps(plan.privacy.sampling_rate, Gaussian(mechanism_of(plan).noise_multiplier), plan.participations)
    below = pld_epsilon(((gaussian, 1),), plan.privacy.delta, 1e-4)
    assert below * 0.995 < below < mechanism_of(plan).cost() < below * {DIGITS: 1.12, FASHION: 1.25}[name]


# Events of both kinds together


def test_one_skellam_event_makes_the_figure_the_renyi_bound() -> None:
    """The bound holds for all events together."""
    events = ((Gaussian(3.0), 2), (steps(0.1, Skellam(2.0, 400.0), 5), 1))
    found = spent(events, 1e-5)
    assert found == rdp_epsilon(events, 1e-5) == spent(events[::-1], 1e-5)
    curve = lambda a: 2 * a / 18 + 5 * renyi(PoissonSampled(0.1, Skellam(2.0, 400.0)), a)  # noqa: E731
    whole = cheapest(curve, 1e-5)
    assert 0.99 * whole < found <= whole
    for alone in events:
        assert spent((alone,), 1e-5) < found
    assert spent(((Gaussian(3.0), 2), (steps(0.1, Gaussian(2.0), 5), 1)), 1e-5) < found


@pytest.mark.parametrize(
    "wrap", [lambda e: e, lambda e: Composed(e, 2), lambda e: Composed(PoissonSampled(0.5, e), 3)]
)
def test_skellam_noise_is_seen_at_any_depth(wrap: Callable[[Event], Event]) -> None:
    """It has no loss distribution."""
    event = wrap(Skellam(2.0, 100.0))
    assert epsilon(event, 1e-5) == rdp_epsilon(((event, 1),), 1e-5) > epsilon(wrap(Gaussian(2.0)), 1e-5)
    with pytest.raises(ValueError, match="skellam"):
        pld_epsilon(((event, 1),), 1e-5)


def test_skellam_beside_what_is_bare_costs_infinitely_much() -> None:
    """Bare is what no noise protects."""
    assert spent(((Skellam(2.0, 100.0), 1), (Unbounded(), 1)), 1e-5) == math.inf
    assert renyi(Composed(PoissonSampled(0.5, Unbounded()), 2), 2) == math.inf


@given(st.integers(1, 20), st.integers(1, 20), st.sampled_from([0.1, 1.0]))
def test_equal_skellam_events_cost_the_same_however_counted(inner: int, outer: int, rate: float) -> None:
    """However their count is written."""
    event = PoissonSampled(rate, Skellam(3.0, 1e4))
    written = [((event, inner * outer),), ((Composed(Composed(event, outer), inner), 1),)]
    figures = [spent(events, 1e-5) for events in written]
    assert figures[0] == pytest.approx(figures[1], rel=1e-9)
