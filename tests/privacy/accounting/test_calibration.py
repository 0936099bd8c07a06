"""The noise that a target needs."""

from __future__ import annotations

import math

import pytest
from opacus.accountants import PRVAccountant

from bract.privacy import Composed, Event, Gaussian, PlanError, PoissonSampled, Skellam, Unbounded
from bract.privacy.accounting import accountant as accounting
from bract.privacy.accounting.accountant import LEAST_NOISE, NOISE_STEP, calibrate, epsilon

# Opacus divides by zero where a tail is empty, and warns of its GDP figure and of its Renyi orders:
pytestmark = pytest.mark.filterwarnings(
    "ignore:divide by zero:RuntimeWarning",
    "ignore:GDP accounting:UserWarning",
    "ignore:Optimal order:UserWarning",
)


def steps(rate: float, noise_multiplier: float, count: int) -> Event:
    return Composed(PoissonSampled(rate, Gaussian(noise_multiplier)), count)


def prv(rate: float, noise_multiplier: float, count: int, delta: float, error: float) -> tuple[float, float]:
    """Lower and upper bound of the numerical accountant of Gopi et al. 2021 in Opacus."""
    accountant = PRVAccountant()
    accountant.history = [(noise_multiplier, rate, count)]
    composed = accountant._get_dprv(eps_error=error, delta_error=delta / 1000)
    lower, _, upper = composed.compute_epsilon(delta, delta / 1000, error)
    return lower, upper


TARGETS = [
    # sampling rate, steps, epsilon, delta
    (0.01, 1000, 1.0, 1e-5),
    (0.01, 3000, 8.0, 1e-6),
    (0.1, 100, 3.0, 1e-5),
    (0.25, 60, 8.0, 1e-4),
    (0.25, 60, 0.5, 1e-4),
    (1.0, 1, 1.0, 1e-5),
    (1.0, 100, 10.0, 1e-6),
]


@pytest.mark.parametrize(("rate", "count", "target", "delta"), TARGETS)
def test_calibrated_noise_meets_its_target_from_below(rate: float, count: int, target: float, delta: float) -> None:
    """It is within one percent of it."""
    noise = calibrate(lambda z: steps(rate, z, count), target, delta)
    assert 0.99 * target <= epsilon(steps(rate, noise, count), delta) <= target


@pytest.mark.parametrize(("rate", "count", "target", "delta"), TARGETS[::2])
def test_calibrated_noise_has_five_digits_and_is_needed(rate: float, count: int, target: float, delta: float) -> None:
    """Hardly less noise would not do."""
    noise = calibrate(lambda z: steps(rate, z, count), target, delta)
    assert noise == float(f"{noise:.5g}")
    assert epsilon(steps(rate, noise * (1 - 5 * NOISE_STEP), count), delta) > target


@pytest.mark.parametrize(("rate", "count", "target", "delta"), TARGETS[1::2])
def test_calibrated_noise_suffices_by_opacus_too(rate: float, count: int, target: float, delta: float) -> None:
    noise = calibrate(lambda z: steps(rate, z, count), target, delta)
    lower, upper = prv(rate, noise, count, delta, error=0.003 * target)
    assert lower <= target
    assert upper <= target * 1.005


@pytest.mark.parametrize(("rate", "count", "target", "delta"), TARGETS)
def test_skellam_noise_is_calibrated_from_below(rate: float, count: int, target: float, delta: float) -> None:
    """On a grid of 800 steps in a clip norm: the more noise, the more steps of it."""

    def event(noise_multiplier: float) -> Event:
        return Composed(PoissonSampled(rate, Skellam(noise_multiplier, (800 * noise_multiplier) ** 2)), count)

    noise = calibrate(event, target, delta)
    assert 0.999 * target <= epsilon(event(noise), delta) <= target
    assert noise > calibrate(lambda z: steps(rate, z, count), target, delta)


@pytest.mark.parametrize("off", [0.999, 0.9999, 1.001])
def test_a_search_that_ends_elsewhere_gives_noise_that_suffices(monkeypatch: pytest.MonkeyPatch, off: float) -> None:
    """The noise was computed to suffice."""

    def event(noise_multiplier: float) -> Event:
        return Gaussian(noise_multiplier)

    noise = calibrate(event, 1.0, 1e-5)
    monkeypatch.setattr(accounting, "crossing", lambda *_, **__: math.log(noise * off))
    assert epsilon(event(calibrate(event, 1.0, 1e-5)), 1e-5) <= 1.0


def test_a_target_met_by_hardly_any_noise_gets_the_least() -> None:
    noise = calibrate(lambda z: steps(0.01, z, 1), 1000.0, 1e-3)
    assert noise == LEAST_NOISE


@pytest.mark.parametrize(("count", "target"), [(10**6, 0.01), (10**9, 1.0), (1, 1e-9)])
def test_a_hopeless_target_is_a_fault_of_the_plan(count: int, target: float) -> None:
    with pytest.raises(PlanError) as caught:
        calibrate(lambda z: steps(1.0, z, count), target, 1e-6)
    assert f"{target:g}" in caught.value.what
    assert len(str(caught.value).splitlines()) == 2


def test_no_noise_at_all_cannot_be_calibrated() -> None:
    with pytest.raises(PlanError):
        calibrate(lambda _: Unbounded(), 8.0, 1e-5)
