"""Privacy loss distributions against numbers of sixty digits, closed forms, and dp_accounting's own."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import pytest
from dp_accounting import DpEvent, GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bract.privacy import Composed, Event, Gaussian, PoissonSampled, Skellam, Unbounded
from bract.privacy.accounting import accountant as accounting
from bract.privacy.accounting import pld as losses
from bract.privacy.accounting.accountant import VAST, Spending, pld_epsilon, rdp_epsilon
from bract.privacy.accounting.pld import Losses, composed, epsilon_at, sampled_gaussian, step_delta
from bract.privacy.planning.compare import gaussian_epsilon

noises = st.floats(0.3, 50.0)
rates = st.one_of(st.floats(1e-6, 0.1), st.floats(0.01, 0.99), st.sampled_from([0.9999, 1 - 1e-9, 1.0]))
gaussians = st.one_of(st.builds(Gaussian, noises), st.builds(PoissonSampled, rates, st.builds(Gaussian, noises)))
events = st.builds(Composed, gaussians, st.integers(1, 300))


def exact_delta(epsilon: float, rate: float, noise_multiplier: float, removed: bool) -> Any:
    """The integral of what one mixture of two normal densities exceeds exp(epsilon) times the other by."""
    q, s, e = mpmath.mpf(rate), mpmath.mpf(noise_multiplier), mpmath.exp(epsilon)
    ratio = (e - (1 - q)) / q if removed else q / (1 / e - (1 - q)) if 1 / e > 1 - q else mpmath.inf
    if ratio <= 0:
        return 1 - e
    if ratio == mpmath.inf:
        return mpmath.mpf(0)
    x = s * s * mpmath.log(ratio) - mpmath.mpf(
        0.5
    )  # removed: loss more than epsilon where the output is beyond -x - 1

    def below(z: Any) -> Any:
        return mpmath.erfc(-z / s / mpmath.sqrt(2)) / 2

    with_unit, without = (below(-x), below(-x - 1)) if removed else (below(-x - 1), below(-x))
    mixed = (1 - q) * without + q * with_unit
    return mixed - e * without if removed else without - e * mixed


@settings(max_examples=150, deadline=None)
@given(rates, st.floats(0.3, 1000.0), st.booleans(), st.sampled_from([1e-3, 1e-4, 1e-5]), st.floats(0, 1))
def test_delta_of_a_step_is_the_exact_one_rounded_up(
    rate: float, noise_multiplier: float, removed: bool, grid: float, share: float
) -> None:
    """At any epsilon on the grid, near zero, and near the epsilon beyond which no output reaches."""
    farthest = losses.FARTHEST / noise_multiplier + 0.5 / noise_multiplier**2
    ends = np.logaddexp(
        math.log1p(-rate) if rate < 1 else -math.inf, math.log(rate) + np.array([-farthest, farthest])
    )
    places = [round((ends[0] + share * (ends[1] - ends[0])) / grid), -1, 0, 1, round(ends[0] / grid) + 1]
    epsilons = np.array([(1 if removed else -1) * place * grid for place in places])
    found = step_delta(epsilons, rate, noise_multiplier, removed)
    with mpmath.workdps(60):
        errors = [
            float(mpmath.mpf(float(delta)) - exact_delta(float(epsilon), rate, noise_multiplier, removed))
            for epsilon, delta in zip(epsilons, found, strict=True)
        ]
    assert min(errors) >= -1.2e-15
    assert max(errors) <= 1e-13


@settings(max_examples=40, deadline=None)
@given(st.floats(1e-4, 1.0), st.floats(0.1, 50.0), st.booleans())
def test_masses_have_the_deltas_of_the_step_and_none_is_negative(
    rate: float, noise_multiplier: float, removed: bool
) -> None:
    step = sampled_gaussian(rate, noise_multiplier, 1e-2, removed)
    values = (np.arange(len(step.masses)) + step.lowest) * step.grid
    places = np.linspace(0, len(values) - 1, 9).astype(int)
    exact = step_delta(values[places], rate, noise_multiplier, removed)
    assert (step.masses >= 0).all()
    assert step.masses.sum() + step.infinite == pytest.approx(1, abs=1e-10)
    for value, delta in zip(values[places], exact, strict=True):
        found = step.infinite + np.maximum(0, -np.expm1(value - values)) @ step.masses
        assert delta - 1e-15 <= found + 1e-14 * delta <= delta + 1e-10


@settings(max_examples=25, deadline=None)
@given(st.floats(1e-4, 0.9999), st.floats(0.3, 50.0))
def test_losses_of_one_step_have_the_deltas_of_dp_accounting(rate: float, noise_multiplier: float) -> None:
    """On the grid and between its points."""
    epsilons = [-3.0, -0.2, 0.0, 0.005, 0.0123, 0.1, 0.5, 2.0, 10.0, 40.0]
    theirs = from_gaussian_mechanism(noise_multiplier, value_discretization_interval=1e-2, sampling_prob=rate)
    both = [sampled_gaussian(rate, noise_multiplier, 1e-2, removed) for removed in (True, False)]
    found = [max(delta_at(side, epsilon) for side in both) for epsilon in epsilons]
    assert np.allclose(found, theirs.get_delta_for_epsilon(epsilons), rtol=1e-9, atol=1e-13)


def delta_at(step: Losses, epsilon: float) -> float:
    values = (np.arange(len(step.masses)) + step.lowest) * step.grid
    above = values > epsilon
    return step.infinite + float(-np.expm1(epsilon - values[above]) @ step.masses[above])


@pytest.mark.parametrize(
    ("noise_multiplier", "count", "grid", "tight"),
    [(30.0, 1000, 1e-3, 1e-4), (300.0, 100_000, 1e-4, 1e-4), (1000.0, 1_000_000, 1e-4, 2e-3)],
)
@pytest.mark.parametrize("delta", [1e-3, 1e-6, 1e-9, 1e-12, 1e-15])
def test_a_million_steps_cost_no_less_than_they_do(
    noise_multiplier: float, count: int, grid: float, tight: float, delta: float
) -> None:
    """Together they are one step of less noise, whose epsilon is known; rounding would hide a delta of 1e-12."""
    steps = [(sampled_gaussian(1.0, noise_multiplier, grid, True), count)]
    exact = gaussian_epsilon(math.sqrt(count) / noise_multiplier, delta)
    assert exact is not None
    assert exact <= epsilon_at(composed(steps, delta), delta) <= exact * (1 + tight)


@pytest.mark.parametrize(
    ("parts", "delta", "grid"),
    [
        (
            [(1.0, 23.11640143232614, 200), (3.185175475844626e-09, 0.27439474328906843, 1)],
            3.178941498063105e-10,
            0.05,
        ),
        ([(3.470280370559127e-11, 0.3642016927940876, 10)], 2.7454653906883717e-11, 0.1),
        ([(0.3, 20.0, 100), (1e-13, 0.2, 3)], 1e-12, 0.1),
    ],
)
def test_rare_large_losses_do_not_drown_others_in_rounding(
    parts: list[tuple[float, float, int]], delta: float, grid: float
) -> None:
    """Sums of positive masses, term by term, are exact; Fourier transforms once read half of it."""
    steps = [(sampled_gaussian(rate, noise, grid, True), count) for rate, noise, count in parts]
    masses, infinite = np.ones(1), 0.0
    for step, count in steps:
        infinite += step.infinite * count
        for _ in range(count):
            masses = np.convolve(masses, step.masses)
    lowest = sum(step.lowest * count for step, count in steps)
    exact = epsilon_at(Losses(grid, lowest, masses, infinite), delta)
    assert exact <= epsilon_at(composed(steps, delta), delta) <= exact * 1.02


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 2**50), min_size=2, max_size=12), st.integers(1, 12)),
        min_size=1,
        max_size=2,
    )
)
def test_no_mass_of_a_composition_is_below_the_exact_one(parts: list[tuple[list[int], int]]) -> None:
    """Exact: sums of products of fractions. A Fourier transform alone lies below as often as above."""
    logs = [(np.log(np.array(masses) / sum(masses)), count) for masses, count in parts]
    exact = [Fraction(1)]
    for log, count in logs:
        factor = [Fraction(float(mass)) for mass in np.exp(log)]
        for _ in range(count):
            exact = [
                sum(
                    (exact[i] * factor[k - i] for i in range(max(0, k - len(factor) + 1), min(k + 1, len(exact)))),
                    Fraction(),
                )
                for k in range(len(exact) + len(factor) - 1)
            ]
    found = losses._convolved(logs, 0, len(exact) - 1)
    assert all(Fraction(float(mass)) >= least for mass, least in zip(found, exact, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-9, 1e-3), st.integers(1, 1000), st.integers(1, 3))
def test_a_loss_without_bound_is_charged_for_every_step(infinite: float, count: int, kinds: int) -> None:
    step = Losses(1e-2, -1, np.array([0.5, 0.2, 0.3]) * (1 - infinite), infinite)
    together = composed([(step, count)] * kinds, 1e-5)
    with mpmath.workdps(40):
        exact = float(1 - (1 - mpmath.mpf(infinite)) ** (count * kinds))
    assert exact * (1 - 1e-9) <= together.infinite <= exact + 1e-4
    assert epsilon_at(together, exact / 2) == math.inf


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize(("rate", "noise_multiplier"), [(1.0, 1.0), (0.5, 2.0), (1e-3, 0.5)])
def test_what_lies_beyond_a_grid_is_lost_without_bound(
    rate: float, noise_multiplier: float, removed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid that ends early, so that much lies beyond: delta is still no less than the exact one."""
    monkeypatch.setattr(losses, "FARTHEST", 1.0)
    sampled_gaussian.cache_clear()
    step = sampled_gaussian(rate, noise_multiplier, 1e-2, removed)
    sampled_gaussian.cache_clear()
    last = (step.lowest + len(step.masses) - 1) * step.grid
    assert step.infinite > 1e-6 or not removed
    for epsilon in (0.0, last / 2, last - step.grid):
        assert delta_at(step, epsilon) >= float(exact_delta(epsilon, rate, noise_multiplier, removed)) * (1 - 1e-9)


@pytest.mark.parametrize("removed", [True, False])
@pytest.mark.parametrize("rate", [1.0, 0.5, 0.1, 0.01])
def test_the_roundings_of_a_steps_delta_are_allowed_for(rate: float, removed: bool) -> None:
    """At fixed places it is nowhere short by more than a quarter of a unit in the last place of one."""
    shortest = 0.0
    for noise_multiplier in (0.5, 1.0, 2.0, 5.0, 20.0):
        epsilons = np.linspace(-0.5, 1.5, 21) / noise_multiplier
        found = step_delta(epsilons, rate, noise_multiplier, removed)
        with mpmath.workdps(50):
            for epsilon, delta in zip(epsilons, found, strict=True):
                exact = exact_delta(float(epsilon), rate, noise_multiplier, removed)
                shortest = min(shortest, float(mpmath.mpf(float(delta)) - exact))
    assert shortest >= -5.6e-17


def test_masses_off_in_their_last_digits_are_charged_every_step() -> None:
    """Each mass 2^-41 of itself too small: over a million steps that would hide a part of delta."""
    count, delta = 1_000_000, 1e-6
    step = sampled_gaussian(1.0, 1000.0, 1e-4, True)
    low = replace(step, masses=step.masses * (1 - 2.0**-41))
    whole, short = (composed([(part, count)], delta) for part in (step, low))
    epsilon = 1.05 * epsilon_at(whole, delta)
    assert delta_at(short, epsilon) >= delta_at(whole, epsilon) - whole.infinite


@pytest.mark.parametrize("delta", [1e-2, 1e-4])
def test_masses_that_a_composition_leaves_out_above_are_charged(
    delta: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grid ends early here; exact sums of positive masses show what lies beyond."""
    monkeypatch.setattr(losses, "TAIL", 0.3)
    step, count, exact = Losses(0.1, -2, np.array([0.1, 0.2, 0.4, 0.2, 0.1]), 0.0), 40, np.ones(1)
    for _ in range(count):
        exact = np.convolve(exact, step.masses)
    together = composed([(step, count)], delta)
    last = together.lowest + len(together.masses) - 1
    beyond = float(exact[last - step.lowest * count + 1 :].sum())
    assert beyond > 100 * losses.ROUNDING_NOISE * count * delta
    assert together.infinite >= beyond


def dp_event(event: Event) -> DpEvent:
    """dp_accounting's record of an event of Gaussian noise."""
    match event:
        case Gaussian(noise_multiplier):
            return GaussianDpEvent(noise_multiplier)
        case PoissonSampled(1, inner):  # which dp_accounting would not compose in closed form
            return dp_event(inner)
        case PoissonSampled(rate, inner):
            return PoissonSampledDpEvent(rate, dp_event(inner))
        case Composed(inner, count):
            return SelfComposedDpEvent(dp_event(inner), count)
        case _:
            raise ValueError(event)


def reference(spending: Spending, delta: float, grid: float) -> float:
    accountant = PLDAccountant(value_discretization_interval=grid)
    for event, count in spending:
        accountant.compose(dp_event(event), count)
    return float(accountant.get_epsilon(delta))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(events, st.integers(1, 3)), min_size=1, max_size=3),
    st.floats(-8, -2).map(lambda power: 10**power),
    st.sampled_from([1e-2, 4e-3]),
)
def test_figures_are_those_of_dp_accounting(spending: list[tuple[Event, int]], delta: float, grid: float) -> None:
    """But for the rounding of composed masses there, of about 1e-13, beside delta."""
    assume(rdp_epsilon(tuple(spending), delta) < VAST)
    expected = reference(tuple(spending), delta, grid)
    assert pld_epsilon(tuple(spending), delta, grid) == pytest.approx(expected, rel=1e-7 + 1e-13 / delta, abs=1e-8)


@pytest.mark.parametrize(
    ("rate", "noise_multiplier", "count", "delta", "grid"),
    [
        (0.0125, 0.77362, 400, 1e-5, 1e-3),
        (0.0125, 1.3, 6516, 1e-5, 1e-4),
        (0.5, 2.8175, 100, 1e-4, 1e-3),
        (0.001, 0.3, 5, 1e-6, 1e-3),
        (0.999, 4.0, 50, 1e-6, 1e-3),
        (0.1, 30.0, 3000, 1e-8, 1e-3),
    ],
)
def test_figures_of_long_trainings_are_those_of_dp_accounting(
    rate: float, noise_multiplier: float, count: int, delta: float, grid: float
) -> None:
    spending = ((Composed(PoissonSampled(rate, Gaussian(noise_multiplier)), count), 1),)
    expected = reference(spending, delta, grid)
    assert pld_epsilon(spending, delta, grid) == pytest.approx(expected, rel=1e-8 + 1e-13 / delta)


@given(st.integers(1, 12), st.integers(1, 12))
@settings(max_examples=10)
def test_the_figure_is_the_same_bit_for_bit_however_counted(inner: int, outer: int) -> None:
    """However the count of events is written."""
    event = PoissonSampled(0.1, Gaussian(1.5))
    written = [
        ((event, inner * outer),),
        ((Composed(event, inner), outer),),
        ((Composed(Composed(event, outer), inner), 1),),
    ]
    assert len({pld_epsilon(spending, 1e-5, 1e-2) for spending in written}) == 1


def test_nothing_costs_nothing_and_no_noise_infinitely_much() -> None:
    assert pld_epsilon((), 1e-5) == 0.0
    assert pld_epsilon(((Gaussian(1.0), 1), (PoissonSampled(0.1, Unbounded()), 1)), 1e-5) == math.inf


@pytest.mark.parametrize(
    "event",
    [
        PoissonSampled(0.5, PoissonSampled(0.5, Gaussian(1.0))),
        PoissonSampled(0.5, Composed(Gaussian(1.0), 2)),
        Composed(PoissonSampled(0.5, Skellam(1.0, 100.0)), 2),
    ],
)
def test_an_event_without_a_proven_distribution_has_no_figure(event: Event) -> None:
    with pytest.raises(ValueError, match="no loss distribution is proven"):
        pld_epsilon(((event, 1),), 1e-5)


@pytest.mark.parametrize("dearer", [True, False])
def test_the_figure_is_of_that_direction_which_costs_more(dearer: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Removing a unit, or adding one; with Poisson samples of Gaussian noise it is as a rule the first."""
    event, less = Composed(PoissonSampled(0.2, Gaussian(3.0)), 10), Composed(PoissonSampled(0.2, Gaussian(1.5)), 10)

    def lopsided(rate: float, noise_multiplier: float, grid: float, removed: bool) -> Losses:
        return sampled_gaussian(rate, noise_multiplier / (2 if removed == dearer else 1), grid, True)

    monkeypatch.setattr(accounting, "sampled_gaussian", lopsided)
    accounting._pld_epsilon.cache_clear()
    found = pld_epsilon(((event, 1),), 1e-5)
    monkeypatch.undo()
    accounting._pld_epsilon.cache_clear()
    assert found == pytest.approx(pld_epsilon(((less, 1),), 1e-5), rel=1e-9)


def test_a_fast_size_is_the_least_of_its_form() -> None:
    """A power of two, or 3, 5, 9 or 15 times one, and never smaller than asked: sums would wrap around."""
    forms = sorted(base << shift for base in (1, 3, 5, 9, 15) for shift in range(12))
    for size in range(1, 1500):
        assert losses._fft_size(size) == next(form for form in forms if form >= size)
