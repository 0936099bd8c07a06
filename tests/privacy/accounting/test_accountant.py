"""What events cost: closed forms, other libraries, and bounds from both sides."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opacus.accountants import GaussianAccountant, PRVAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from bract.privacy import Composed, Event, Gaussian, PoissonSampled, Unbounded
from bract.privacy.accounting import accountant as accounting
from bract.privacy.accounting.accountant import GRIDS, VAST, AccountingError, epsilon, rdp_epsilon, spent

# Opacus divides by zero where a tail is empty, and warns of its GDP figure and of its Renyi orders:
pytestmark = pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning",
    "ignore:GDP accounting:UserWarning",
    "ignore:Optimal order:UserWarning",
)

SETTINGS = [
    # sampling rate, noise multiplier, steps, delta
    (0.01, 0.6, 1000, 1e-5),
    (0.01, 0.8, 3000, 1e-5),
    (0.01, 1.0, 3000, 1e-6),
    (0.01, 2.0, 3000, 1e-5),
    (0.02, 0.7, 300, 1e-4),
    (0.02, 1.0, 1000, 1e-6),
    (0.02, 0.9, 30, 1e-5),
    (0.05, 0.8, 100, 1e-5),
    (0.05, 1.0, 500, 1e-5),
    (0.05, 2.0, 3000, 1e-6),
    (0.1, 0.6, 10, 1e-4),
    (0.1, 1.0, 100, 1e-5),
    (0.1, 2.0, 1000, 1e-5),
    (0.1, 4.0, 3000, 1e-6),
    (0.25, 1.5, 60, 1e-4),
    (0.01, 6.0, 3000, 1e-5),
    (0.25, 4.0, 3000, 1e-5),
    (0.5, 2.0, 50, 1e-5),
    (0.5, 4.0, 300, 1e-6),
    (1.0, 2.0, 10, 1e-6),
    (1.0, 4.0, 1, 1e-4),
]
"""Costs between 0.2 and 20."""


def steps(rate: float, noise_multiplier: float, count: int) -> Event:
    return Composed(PoissonSampled(rate, Gaussian(noise_multiplier)), count)


def root(excess: Callable[[float], float], high: float = 200.0) -> float:
    return float(brentq(excess, 0.0, high, xtol=1e-12))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Balle and Wang 2018, theorem 8: exact for a Gaussian of sensitivity `mu` standard deviations."""
    return root(lambda e: norm.cdf(mu / 2 - e / mu) - math.exp(e) * norm.cdf(-mu / 2 - e / mu) - delta)


def sampled_gaussian_epsilon(rate: float, sigma: float, delta: float) -> float:
    """Exact for one Poisson-sampled Gaussian, the worse of adding and removing the unit.

    P = (1-q) N(0, s^2) + q N(1, s^2), Q = N(0, s^2): the likelihood ratio rises, so the best events are half lines.
    """

    def threshold(ratio: float) -> float:
        inner = (ratio - (1 - rate)) / rate
        return sigma**2 * math.log(inner) + 0.5 if inner > 0 else -math.inf

    def delta_remove(e: float) -> float:
        x = threshold(math.exp(e))
        q = norm.sf(x / sigma)
        return (1 - rate) * q + rate * norm.sf((x - 1) / sigma) - math.exp(e) * q

    def delta_add(e: float) -> float:
        x = threshold(math.exp(-e))
        q = norm.cdf(x / sigma)
        return q - math.exp(e) * ((1 - rate) * q + rate * norm.cdf((x - 1) / sigma))

    return max(
        root(lambda e, side=side: side(e) - delta) if side(0.0) > delta else 0.0 for side in (delta_remove, delta_add)
    )


@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9, 1e-12])
@pytest.mark.parametrize(
    ("noise_multiplier", "count"), [(0.5, 1), (1.0, 1), (4.0, 1), (3.0, 7), (10.0, 100), (40.0, 1000)]
)
def test_gaussians_cost_what_the_closed_form_says_and_never_less(
    noise_multiplier: float, count: int, delta: float
) -> None:
    exact = gaussian_epsilon(math.sqrt(count) / noise_multiplier, delta)
    found = epsilon(Composed(Gaussian(noise_multiplier), count), delta)
    assert exact * (1 - 1e-9) <= found <= exact * 1.001 + 2e-3


@pytest.mark.parametrize("delta", [1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 2.0])
def test_one_sampled_gaussian_costs_the_closed_form(noise_multiplier: float, rate: float, delta: float) -> None:
    """The figure is never lower than it."""
    exact = sampled_gaussian_epsilon(rate, noise_multiplier, delta)
    found = epsilon(PoissonSampled(rate, Gaussian(noise_multiplier)), delta)
    assert exact * (1 - 1e-9) <= found <= exact * 1.001 + 2e-3


def prv(rate: float, noise_multiplier: float, count: int, delta: float, error: float) -> tuple[float, float]:
    """Lower and upper bound of the numerical accountant of Gopi et al. 2021 in Opacus."""
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, rate, count)]
    composed = accountant._get_dprv(eps_error=error, delta_error=delta / 1000)
    lower, _, upper = composed.compute_epsilon(delta, delta / 1000, error)
    return lower, upper


@pytest.mark.parametrize(("rate", "noise_multiplier", "count", "delta"), SETTINGS)
def test_agrees_with_opacus_and_lies_below_renyi(
    rate: float, noise_multiplier: float, count: int, delta: float
) -> None:
    """It agrees with Opacus' PRV, and lies above that one's lower bound."""
    event = steps(rate, noise_multiplier, count)
    found = epsilon(event, delta)
    lower, upper = prv(rate, noise_multiplier, count, delta, error=0.003 * found)
    assert 0.2 < found < 25
    assert lower <= found
    assert found == pytest.approx((lower + upper) / 2, rel=0.01)
    assert found == pytest.approx(upper, rel=0.01)
    assert found <= rdp_epsilon(((event, 1),), delta)


@pytest.mark.parametrize(
    ("rate", "noise_multiplier", "count", "delta"), [s for s in SETTINGS if s[0] <= 0.1], ids=str
)
def test_exceeds_the_central_limit_figure_which_understates(
    rate: float, noise_multiplier: float, count: int, delta: float
) -> None:
    accountant = GaussianAccountant()
    accountant.history = [(noise_multiplier, rate, count)]
    assert epsilon(steps(rate, noise_multiplier, count), delta) > accountant.get_epsilon(delta)


@pytest.mark.parametrize(("rate", "noise_multiplier", "count", "delta"), SETTINGS[::5])
def test_more_steps_or_sampling_or_less_noise_cost_more(
    rate: float, noise_multiplier: float, count: int, delta: float
) -> None:
    """So does a smaller delta."""
    base = epsilon(steps(rate, noise_multiplier, count), delta)
    assert epsilon(steps(rate, noise_multiplier, 2 * count), delta) > base
    assert epsilon(steps(rate, noise_multiplier * 0.9, count), delta) > base
    assert epsilon(steps(rate * 0.5, noise_multiplier, count), delta) < base
    assert epsilon(steps(rate, noise_multiplier, count), delta / 10) > base


EVENT = PoissonSampled(0.1, Gaussian(1.5))


@settings(max_examples=8)
@given(st.integers(1, 20), st.integers(1, 20))
def test_equal_events_cost_the_same_however_counted(inner: int, outer: int) -> None:
    """However their count is written."""
    count = inner * outer
    written = [((EVENT, count),), ((Composed(EVENT, count), 1),), ((Composed(EVENT, inner), outer),)]
    written.append(((Composed(Composed(EVENT, outer), inner), 1),))
    figures = {spent(events, 1e-5) for events in written}
    assert max(figures) == pytest.approx(min(figures), rel=1e-9)


def test_unequal_gaussians_compose_as_the_closed_form_says() -> None:
    events = ((Gaussian(2.0), 3), (Composed(Gaussian(4.0), 2), 2), (PoissonSampled(1.0, Gaussian(8.0)), 5))
    mu = math.sqrt(3 / 4 + 4 / 16 + 5 / 64)
    exact = gaussian_epsilon(mu, 1e-6)
    assert exact <= spent(events, 1e-6) <= exact * 1.001 + 2e-3


def test_the_order_of_events_does_not_matter() -> None:
    events = ((Gaussian(2.0), 3), (EVENT, 4))
    assert spent(events, 1e-5) == pytest.approx(spent(events[::-1], 1e-5), rel=1e-9)


def test_nothing_costs_nothing() -> None:
    assert spent((), 1e-5) == 0.0


@pytest.mark.parametrize(
    "event",
    [Unbounded(), Composed(Unbounded(), 2), PoissonSampled(0.1, Unbounded()), Composed(Composed(Unbounded(), 1), 1)],
)
def test_what_no_noise_protects_costs_infinitely_much(event: Event) -> None:
    """It does at any depth, and beside anything."""
    assert epsilon(event, 1e-5) == math.inf
    assert spent(((Gaussian(100.0), 1), (event, 1)), 1e-5) == math.inf
    assert rdp_epsilon(((event, 1),), 1e-5) == math.inf


def test_figures_that_contradict_each_other_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They contradict each other on every grid."""
    asked: list[float] = []

    def above(events: object, delta: float, grid: float) -> float:
        asked.append(grid)
        return rdp_epsilon(events, delta) * 1.0001  # type: ignore[arg-type]

    monkeypatch.setattr(accounting, "pld_epsilon", above)
    with pytest.raises(AccountingError):
        epsilon(Gaussian(2.0), 1e-5)
    assert asked == list(GRIDS)


def test_a_figure_that_is_not_a_number_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "pld_epsilon", lambda *_: math.nan)
    with pytest.raises(AccountingError):
        epsilon(Gaussian(2.0), 1e-5)


def test_a_finer_grid_decides_where_the_first_is_too_coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    def coarse_is_poor(events: object, delta: float, grid: float) -> float:
        return rdp_epsilon(events, delta) * (0.9 if grid == GRIDS[1] else 2.0)  # type: ignore[arg-type]

    monkeypatch.setattr(accounting, "pld_epsilon", coarse_is_poor)
    assert epsilon(Gaussian(2.0), 1e-5) == 0.9 * rdp_epsilon(((Gaussian(2.0), 1),), 1e-5)


@pytest.mark.parametrize("event", [Composed(Gaussian(0.1), 10), Gaussian(0.01), steps(1.0, 0.5, 10**6)], ids=str)
def test_where_nothing_is_protected_renyi_is_the_figure(event: Event) -> None:
    """Finer accounting would take gigabytes there: a plan that a stranger offers must not be able to ask for it."""
    found = epsilon(event, 1e-5)
    assert VAST < found == rdp_epsilon(((event, 1),), 1e-5) < math.inf


@pytest.mark.parametrize("mu", [1.0, 4.0, 10.0, 13.0])
def test_the_figure_is_never_below_the_exact_one(mu: float) -> None:
    """The test walks to where Rényi takes over."""
    exact = gaussian_epsilon(mu, 1e-5)
    assert exact * (1 - 1e-9) <= epsilon(Gaussian(1 / mu), 1e-5) <= exact * 1.01
    assert exact < VAST


def test_no_warning_passes_silently() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert epsilon(steps(0.03, 1.1, 77), 1e-5) > 0


@pytest.mark.parametrize("count", [10**6, 10**3])
def test_a_finer_grid_is_used_until_its_error_is_small(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The error grows with the steps, however their count is written; the last grid is used whatever its error."""
    asked: list[float] = []

    def figure(events: object, delta: float, grid: float = GRIDS[0]) -> float:
        asked.append(grid)
        return 0.01

    monkeypatch.setattr(accounting, "pld_epsilon", figure)
    monkeypatch.setattr(accounting, "rdp_epsilon", lambda events, delta: 1.0)
    step = PoissonSampled(0.01, Gaussian(9.0))
    assert spent(((Composed(Composed(step, count), 1000), 1),), 1e-5) == 0.01
    assert asked == list(GRIDS)
    asked.clear()
    assert spent(((step, 1),), 1e-5) == 0.01
    assert asked == list(GRIDS[:1])


def test_a_tiny_epsilon_is_not_rounded_up_to_a_larger_one() -> None:
    """With so much noise the exact figure is far below a tenth."""
    assert epsilon(Gaussian(100.0), 1e-5) == pytest.approx(gaussian_epsilon(0.01, 1e-5), rel=0.02)


def test_one_order_is_enough_to_show_that_nothing_is_lost() -> None:
    """At low orders the divergence is below the square of delta, at high ones far above."""
    event = PoissonSampled(1e-9, Gaussian(0.5))
    assert accounting.renyi(event, 2) < 1e-10 < accounting.renyi(event, 2048)
    assert rdp_epsilon(((event, 1),), 1e-5) == 0.0
