"""The guarantees of noise that devices share, from first principles: what arrives, what it hides, what is charged.

Nothing here imports torch or Flower, so that `test_sabotage.py` breaks them quickly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bract.privacy import Clipped, Composed, Keystream, Plan, View, make_plan, mechanism_of
from bract.privacy.accounting.accountant import epsilon
from bract.privacy.accounting.events import Event, PoissonSampled, Skellam
from bract.privacy.encoding.rotation import unrotate
from bract.privacy.mechanisms.distributed import Distributed

COUNT, DEVICES = 4096, 10
LEAST, COLLUDERS = 7, 3
"""Of ten devices three may drop out and three, fewer than a third, may work with the server."""

CELLS = [("record", 0.5), ("client", 1.0)]


def plan(unit: str = "record", rate: float = 0.5, noise_multiplier: float = 1.0, **aggregation: Any) -> Plan:
    tables = {
        "data": {"clients": DEVICES},
        "model": {"parameters": COUNT},
        "cohort": {"rounds": 5, "size": DEVICES},
        "privacy": {
            "unit": unit,
            "noise": "distributed",
            "epsilon": 1e6,
            "clip_norm": 0.4,
            "sampling_rate": rate,
            "noise_multiplier": noise_multiplier,
        },
        "aggregation": {"protocol": "secagg"} | aggregation,
    }
    return make_plan(tables, Plan)


def key(*numbers: int) -> Keystream:
    return Keystream(bytes([*numbers, *[0] * (32 - len(numbers))]))


def distributed(which: Plan) -> Distributed:
    mechanism = mechanism_of(which)
    assert isinstance(mechanism, Distributed)
    return mechanism


def sent(mechanism: Distributed, vector: np.ndarray, *numbers: int) -> np.ndarray:
    """What a device sends of a vector, under the draws of these numbers."""
    return mechanism.contribute(Clipped(vector), 1, lambda *purpose: key(*numbers)).vector


def shares(mechanism: Distributed, devices: int, seed: int = 0) -> np.ndarray:
    """The sum in steps of what so many devices send that have nothing to say."""
    return np.sum([sent(mechanism, np.zeros(COUNT), seed, device) for device in range(devices)], axis=0)


def squared_norm(mechanism: Distributed) -> float:
    """The mean square of the L2 norm, in steps, by which one unit moves a rounded sum at most."""
    return (mechanism.clip_norm / mechanism.grid.step) ** 2 + COUNT / 4


def inner(event: Event) -> Skellam:
    """The one noised sum of a round."""
    assert isinstance(event, Composed)
    assert event.count == 1
    once = event.event.event if isinstance(event.event, PoissonSampled) else event.event
    assert isinstance(once, Skellam)
    return once


def deviates(values: np.ndarray, std: float) -> bool:
    """Whether a sample's standard deviation is off by more than six standard errors: false alarm 2e-9."""
    return abs(float(values.std()) / std - 1) > 6 / math.sqrt(2 * len(values))


@pytest.mark.parametrize("noise_multiplier", [0.6, 4.0])
@pytest.mark.parametrize(("unit", "rate"), CELLS)
def test_the_fewest_honest_devices_bring_the_planned_noise(unit: str, rate: float, noise_multiplier: float) -> None:
    which = distributed(plan(unit, rate, noise_multiplier))
    arrived = np.concatenate([shares(which, LEAST - COLLUDERS, seed) for seed in range(8)])
    assert not deviates(arrived, noise_multiplier * math.sqrt(squared_norm(which)))


@pytest.mark.parametrize(("unit", "rate"), CELLS)
@pytest.mark.parametrize("survivors", [LEAST, 8, DEVICES])
def test_what_is_charged_is_the_noise_that_arrived(unit: str, rate: float, survivors: int) -> None:
    """The colluders tell the server their shares, or leave them out: theirs do not count, in either view."""
    which = distributed(plan(unit, rate))
    views: tuple[View, View] = ("server", "released")
    for view, unknown in zip(views, [survivors - COLLUDERS] * 2, strict=True):
        round_event = which.event(view, survivors)
        event = inner(round_event)
        arrived = np.concatenate([shares(which, unknown, seed) for seed in range(8)])
        assert not deviates(arrived, math.sqrt(event.variance))
        assert event.variance / event.noise_multiplier**2 == pytest.approx(squared_norm(which))
        assert isinstance(round_event, Composed)
        assert isinstance(round_event.event, PoissonSampled) == (unit == "record")


def test_a_plan_is_charged_as_if_the_fewest_came() -> None:
    """And as if all colluders were among them."""
    which = distributed(plan())
    assert (which.plan.least_survivors, which.plan.colluders) == (LEAST, COLLUDERS)
    assert which.server_event == which.event("server", LEAST)
    assert inner(which.server_event).noise_multiplier == pytest.approx(which.noise_multiplier)
    assert which.cost() == epsilon(Composed(which.event("server", LEAST), 5), which.plan.privacy.delta)


@pytest.mark.parametrize("survivors", [LEAST, 8, DEVICES])
def test_epsilon_is_hardly_above_that_of_gaussian_noise(survivors: int) -> None:
    """A second computation: Renyi divergence of the Gaussian at real orders, then Canonne et al. 2020."""
    which, delta, rounds = distributed(plan("client", 1.0, noise_multiplier=3.0)), 1e-4, 5
    variance = (survivors - COLLUDERS) * shares(which, 1).var()
    rate = rounds * squared_norm(which) / (2 * variance)
    orders = np.linspace(1.01, 60, 20_000)
    gaussian = rate * orders + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)
    found = epsilon(Composed(which.event("server", survivors), rounds), delta)
    # the variance is measured, six standard errors either way; the bound's own orders cost up to 1 %
    error = 1 + 6 * math.sqrt(2 / COUNT)
    assert gaussian.min() / error < found < gaussian.min() * error * 1.01


def moved(which: Distributed, vector: np.ndarray, by: np.ndarray, seed: int) -> np.ndarray:
    """By how many steps a device's numbers move if its rotated vector moves so, under the same draws."""
    before, after = (unrotate(v * which.grid.step, which.rotation(1), COUNT) for v in (vector, vector + by))
    return sent(which, after, seed) - sent(which, before, seed)


def halves(which: Distributed) -> np.ndarray:
    """A move, in steps, by half a step and a whole number in each coordinate, of just the clip norm or a bit less."""
    norm = which.clip_norm / which.grid.step
    low = math.floor(norm / math.sqrt(COUNT) - 0.5) + 0.5
    high = int((norm**2 - COUNT * low**2) / (2 * low + 1))
    return np.where(np.arange(COUNT) < high, low + 1, low)


@pytest.mark.parametrize("bits", [None, 16, 32])
def test_a_unit_moves_a_rounded_sum_by_what_is_charged(bits: int | None) -> None:
    """Half a step in each coordinate is the worst there is: the allowance for rounding is used up, and not passed."""
    which = distributed(plan(**{} if bits is None else {"bits": bits}))
    event = inner(which.server_event)
    allowed = event.variance / event.noise_multiplier**2
    by, vector = halves(which), np.random.default_rng(0).normal(size=COUNT)
    assert 0.999 < np.linalg.norm(by) * which.grid.step / which.clip_norm <= 1
    squares = [float((moved(which, vector, by, seed) ** 2).sum()) for seed in range(100)]
    found = float(np.mean(squares))
    error = float(np.std(squares)) / 10
    assert found < allowed + 6 * error  # a false alarm in 1e-9 of seeds, and the seeds are fixed
    assert found > allowed - 6 * error - 2 * by.max()
    assert 6 * error < COUNT / 8


def test_a_hair_moves_a_rounded_vector_by_a_hair_on_average() -> None:
    """To the nearest, a thousandth of a step could move each coordinate by a whole one."""
    which = distributed(plan())
    event = inner(which.server_event)
    vector, by = np.full(COUNT, 0.4995), np.full(COUNT, 0.001)
    squares = [float((moved(which, vector, by, seed) ** 2).sum()) for seed in range(20)]
    expected = 0.001 * COUNT
    assert abs(np.mean(squares) - expected) < 6 * math.sqrt(expected / 20)  # false alarm 2e-9
    assert max(squares) < COUNT / 4 < event.variance / event.noise_multiplier**2
