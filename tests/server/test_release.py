from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest

from bract.privacy import Keystream, Plan, Release, Sum
from bract.privacy.noise.gaussian import gaussian
from bract.privacy.plan.schema import Privacy
from bract.server.release import RELEASES, release_central, release_local

Make = Callable[..., Plan]
COUNT = 20_000
RINGS = [{}, {"bits": 64}, {"bits": 32, "range": 1.0}]
"""Sums on the grid that the plan chooses, on the finest and on a coarse one."""


def key(number: int) -> Keystream:
    return Keystream(bytes([number]) * 32)


def total(plan: Plan, seed: int = 0, count: int = COUNT) -> Sum:
    """A sum of any size that the plan's cohort can reach, up to 2^34 steps."""
    most = min(plan.bound * plan.cohort.size, 2**34)
    return Sum(np.random.default_rng(seed).integers(-most, most, count))


class NoKeystream(Keystream):
    """A keystream that must not be used."""

    def bytes(self, count: int) -> bytes:
        raise AssertionError


def test_there_is_a_release_for_each_unit_and_each_place_of_noise_of_a_deployed_plan() -> None:
    units, places = (get_args(Privacy.model_fields[name].annotation) for name in ("unit", "noise"))
    assert set(RELEASES) == set(product(units, places))
    assert len(RELEASES) == 6


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("noise_multiplier", [3.0, 40.0])
def test_a_central_release_carries_the_plans_noise_over_the_batch_size(
    make: Make, noise_multiplier: float, clip_norm: float
) -> None:
    plan = make(privacy={"noise_multiplier": noise_multiplier, "clip_norm": clip_norm})
    release = release_central(Sum(np.zeros(COUNT, dtype=np.int64)), plan, key(1), 1)
    std = noise_multiplier * (clip_norm + math.sqrt(COUNT) * plan.grid_step) * 0.5 / 8
    assert isinstance(release, Release)
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(release.vector.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(release.vector.mean()) < 6 * std / math.sqrt(COUNT)


@pytest.mark.parametrize("aggregation", RINGS)
def test_a_central_release_is_minus_the_rate_times_the_noised_sum_over_the_public_batch_size(
    make: Make, aggregation: dict[str, Any]
) -> None:
    tables = {"batch_size": 40, "learning_rate": 0.25}, {"clip_norm": 2.0}
    plan = make(training=tables[0], privacy=tables[1], aggregation=aggregation)
    noise = gaussian(plan.noise_std(COUNT) / plan.noise_step, COUNT, key(2)) * plan.noise_step
    expected = -0.25 * (total(plan).vector * plan.grid_step + noise) / 40
    found = release_central(total(plan), plan, key(2), 1).vector
    assert np.allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("aggregation", RINGS)
def test_central_noise_is_added_on_a_grid_of_a_billionth_of_the_clip_norm_whatever_the_sums_grid(
    make: Make, aggregation: dict[str, Any]
) -> None:
    """Each number is a whole multiple of the noise's own step; on the sums' coarser one hardly any is."""
    plan = make(aggregation=aggregation, training={"learning_rate": 1.0})
    assert 2.0**-30 <= plan.noise_step < 2.0**-30 * (1 + 1 / plan.refinement) * (1 + 1e-12)
    numbers = release_central(total(plan), plan, key(8), 1).vector * 8
    fine, coarse = numbers / plan.noise_step, numbers / plan.grid_step
    assert np.abs(fine - np.rint(fine)).max() < 1e-3
    on_grid = np.mean(np.abs(coarse - np.rint(coarse)) < 0.25 / plan.refinement)
    assert on_grid == 1 if plan.refinement == 1 else on_grid < 0.2


@pytest.mark.parametrize("aggregation", RINGS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_of_the_whole_cohort_keeps_its_sign_under_the_noise(
    make: Make, aggregation: dict[str, Any], sign: int
) -> None:
    plan = make(aggregation=aggregation)
    most = sign * plan.bound * plan.cohort.size
    shift = release_central(Sum(np.full(COUNT, most)), plan, key(9), 1).vector
    noise = release_central(Sum(np.zeros(COUNT, dtype=np.int64)), plan, key(9), 1).vector
    assert np.allclose(shift - noise, -0.5 * most * plan.grid_step / 8, rtol=1e-9, atol=0)


def test_the_central_divisor_is_the_same_however_many_are_in_the_cohort(make: Make) -> None:
    plans = [make(cohort={"size": size}, aggregation={"bits": 64}) for size in (2, 4)]
    assert plans[0].grid_step == plans[1].grid_step
    releases = [release_central(total(plans[0]), plan, key(3), 1).vector for plan in plans]
    assert np.array_equal(*releases)


def test_central_noise_does_not_depend_on_the_sum(make: Make) -> None:
    plan = make()
    zero = release_central(Sum(np.zeros(COUNT, dtype=np.int64)), plan, key(4), 1).vector
    shift = release_central(total(plan), plan, key(4), 1).vector - zero
    expected = -0.5 * total(plan).vector * plan.grid_step / 8
    assert np.abs(shift - expected).max() < 1e-9 * np.abs(expected).max()


def test_two_central_releases_never_share_their_noise(make: Make) -> None:
    plan, keystream = make(), key(5)
    draws = [release_central(total(plan), plan, k, 1).vector for k in (keystream, keystream, key(6))]
    base = -0.5 * total(plan).vector * plan.grid_step / 8
    for one, other in ((0, 1), (0, 2), (1, 2)):
        noises = draws[one] - base, draws[other] - base
        assert abs(np.corrcoef(*noises)[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("bits", [None, 64])
def test_a_local_release_is_the_sum_over_the_planned_cohort(make: Make, size: int, bits: int | None) -> None:
    aggregation = {} if bits is None else {"bits": bits}
    plan = make(privacy={"noise": "local", "clip_norm": 0.5}, cohort={"size": size}, aggregation=aggregation)
    release = release_local(total(plan), plan, NoKeystream(bytes(32)), 1)
    step = 0.5 / 2**30 if bits == 64 else plan.range / plan.bound
    assert np.array_equal(release.vector, total(plan).vector * step / size)


@pytest.mark.parametrize("cell", RELEASES)
def test_a_release_leaves_the_sum_as_it_is_and_prints_no_number(make: Make, cell: tuple[str, str]) -> None:
    unit, noise = cell
    plan = make(
        model={"parameters": 2 * COUNT // 3},
        privacy={"unit": unit, "noise": noise, "sampling_rate": 0.5 if unit == "record" else 1.0},
        aggregation={"protocol": "secagg"},
    )
    count = plan.coordinates(plan.parameters)
    opened = total(plan, count=count)
    opened.vector.flags.writeable = False
    release = RELEASES[cell](opened, plan, key(7), 1)
    assert repr(release) == f"Release(shape=({plan.parameters},), dtype=float64)"
    assert repr(opened) == f"Sum(shape=({count},), dtype=int64)"
