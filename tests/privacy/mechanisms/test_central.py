"""What the server releases of a sum that it adds the noise to itself, for records and for clients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bract.privacy import Clipped, Keystream, Plan, Release, Sum, Update, make_plan, mechanism_of
from bract.privacy.mechanisms.central import Central
from bract.privacy.noise.gaussian import gaussian

COUNT = 20_000
RINGS = [{}, {"bits": 64}, {"bits": 32, "range": 1.0}]
"""Sums on the grid that the plan chooses, on the finest and on a coarse one."""


def central(unit: str = "record", size: int = 4, **tables: dict[str, Any]) -> Central:
    """The mechanism of a plan for so many devices, with keys such as `privacy={"clip_norm": 0.5}`."""
    sections: dict[str, dict[str, Any]] = {
        "data": {"clients": 8},
        "training": {"batch_size": 8, "learning_rate": 0.5},
        "cohort": {"rounds": 3, "size": size},
        "privacy": {
            "unit": unit,
            "noise": "central",
            "epsilon": 1e3,
            "delta": 1e-3,
            "sampling_rate": 0.5 if unit == "record" else 1.0,
            "noise_multiplier": 3.0,
        },
        "aggregation": {},
    }
    plan = make_plan({name: section | tables.get(name, {}) for name, section in sections.items()}, Plan)
    mechanism = mechanism_of(plan)
    assert isinstance(mechanism, Central)
    return mechanism


def key(number: int) -> Keystream:
    return Keystream(bytes([number]) * 32)


def total(mechanism: Central, count: int = COUNT) -> Sum:
    """A sum of any size that the plan's cohort can reach, up to 2^34 steps."""
    most = min(mechanism.grid.bound * mechanism.plan.cohort.size, 2**34)
    return Sum(np.random.default_rng(0).integers(-most, most, count))


def zeros(count: int = COUNT) -> Sum:
    return Sum(np.zeros(count, dtype=np.int64))


def released(mechanism: Central, opened: Sum, keystream: Keystream) -> np.ndarray:
    release, correlation = mechanism.release(opened, 1, keystream)
    assert isinstance(release, Release)
    assert correlation is None
    return release.vector


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("noise_multiplier", [3.0, 40.0])
def test_a_release_carries_the_noise_over_the_batch_size(noise_multiplier: float, clip_norm: float) -> None:
    mechanism = central(privacy={"noise_multiplier": noise_multiplier, "clip_norm": clip_norm})
    found = released(mechanism, zeros(), key(1))
    # two steps of the grid a coordinate are what rounding, and a lane of the ring that carries, move a sum by
    std = noise_multiplier * (clip_norm + 2 * math.sqrt(COUNT) * mechanism.grid.step) * 0.5 / 8
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(found.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(found.mean()) < 6 * std / math.sqrt(COUNT)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("clip_norm", [0.5, 1.0])
def test_an_average_of_changes_carries_the_noise_over_the_cohort(size: int, clip_norm: float) -> None:
    mechanism = central("client", size, privacy={"clip_norm": clip_norm, "noise_multiplier": 2.0})
    found = released(mechanism, zeros(), key(1))
    std = 2.0 * (clip_norm + 2 * math.sqrt(COUNT) * mechanism.grid.step) / size
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(found.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(found.mean()) < 6 * std / math.sqrt(COUNT)


@pytest.mark.parametrize("aggregation", RINGS)
def test_a_release_is_the_noised_sum_over_the_batch_size(aggregation: dict[str, Any]) -> None:
    """It is minus the learning rate times that; the batch size is public, as the plan says it."""
    tables = {"batch_size": 40, "learning_rate": 0.25}, {"clip_norm": 2.0}
    mechanism = central(training=tables[0], privacy=tables[1], aggregation=aggregation)
    std = mechanism.noise_std(COUNT) / mechanism.grid.noise_step
    noise = gaussian(std, COUNT, key(2)) * mechanism.grid.noise_step
    expected = -0.25 * (total(mechanism).vector * mechanism.grid.step + noise) / 40
    found = released(mechanism, total(mechanism), key(2))
    assert np.allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_an_average_of_changes_is_the_noised_sum_over_the_cohort() -> None:
    mechanism = central("client")
    opened = total(mechanism)
    std = mechanism.noise_std(COUNT) / mechanism.grid.noise_step
    noise = gaussian(std, COUNT, key(2)) * mechanism.grid.noise_step
    expected = (opened.vector * mechanism.grid.step + noise) / 4
    found = released(mechanism, opened, key(2))
    assert np.allclose(found, expected, rtol=0, atol=1e-12 * np.abs(found).max())


@pytest.mark.parametrize("aggregation", RINGS)
def test_noise_has_a_grid_of_a_billionth_of_the_clip_norm(aggregation: dict[str, Any]) -> None:
    """Whatever the sums' grid: each number is a whole multiple of the noise's own step; on the sums' coarser one
    hardly any is."""
    mechanism = central(aggregation=aggregation, training={"learning_rate": 1.0})
    step, refinement = mechanism.grid.noise_step, mechanism.grid.refinement
    assert 2.0**-30 <= step < 2.0**-30 * (1 + 1 / refinement) * (1 + 1e-12)
    numbers = released(mechanism, total(mechanism), key(8)) * 8
    fine, coarse = numbers / step, numbers / mechanism.grid.step
    assert np.abs(fine - np.rint(fine)).max() < 1e-3
    on_grid = np.mean(np.abs(coarse - np.rint(coarse)) < 0.25 / refinement)
    assert on_grid == 1 if refinement == 1 else on_grid < 0.2


@pytest.mark.parametrize("aggregation", RINGS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_keeps_its_sign_under_the_noise(aggregation: dict[str, Any], sign: int) -> None:
    mechanism = central(aggregation=aggregation)
    most = sign * mechanism.grid.bound * 4
    shift = released(mechanism, Sum(np.full(COUNT, most)), key(9))
    noise = released(mechanism, zeros(), key(9))
    assert np.allclose(shift - noise, -0.5 * most * mechanism.grid.step / 8, rtol=1e-9, atol=0)


def test_the_divisor_is_the_same_however_many_are_in_the_cohort() -> None:
    one, other = (central(size=size, aggregation={"bits": 64}) for size in (2, 4))
    assert one.grid.step == other.grid.step
    assert np.array_equal(*(released(mechanism, total(one), key(3)) for mechanism in (one, other)))


def test_noise_does_not_depend_on_the_sum() -> None:
    mechanism = central()
    shift = released(mechanism, total(mechanism), key(4)) - released(mechanism, zeros(), key(4))
    expected = -0.5 * total(mechanism).vector * mechanism.grid.step / 8
    assert np.abs(shift - expected).max() < 1e-9 * np.abs(expected).max()


def test_two_releases_never_share_their_noise() -> None:
    mechanism, keystream = central(), key(5)
    draws = [released(mechanism, total(mechanism), k) for k in (keystream, keystream, key(6))]
    base = -0.5 * total(mechanism).vector * mechanism.grid.step / 8
    for one, other in ((0, 1), (0, 2), (1, 2)):
        noises = draws[one] - base, draws[other] - base
        assert abs(np.corrcoef(*noises)[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("unit", ["record", "client"])
def test_a_vector_that_is_not_clipped_is_refused(unit: str) -> None:
    def draw(*purpose: str | int) -> Keystream:
        raise AssertionError("no noise is drawn on the device")

    mechanism, vector = central(unit), np.full(5, 0.1)
    with pytest.raises(ValueError, match="not clipped"):
        mechanism.contribute(Update(vector), 1, draw)
    sent = mechanism.contribute(Clipped(vector), 1, draw).vector
    assert np.abs(sent * mechanism.grid.step - vector).max() <= mechanism.grid.step / 2
