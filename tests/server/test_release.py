from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bract.privacy import Keystream, Plan, Release, Sum
from bract.privacy.noise import gaussian
from bract.server.release import RELEASES, release_central, release_local

Make = Callable[..., Plan]
COUNT = 20_000


def key(number: int) -> Keystream:
    return Keystream(bytes([number]) * 32)


def total(seed: int = 0) -> Sum:
    return Sum(np.random.default_rng(seed).integers(-(2**34), 2**34, COUNT))


class NoKeystream(Keystream):
    """A keystream that must not be used."""

    def bytes(self, count: int) -> bytes:
        raise AssertionError


def test_there_is_a_release_for_each_place_of_noise_of_a_deployed_plan(make: Make) -> None:
    assert {make(privacy={"noise": noise}).cell for noise in ("local", "central")} == set(RELEASES)


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("noise_multiplier", [3.0, 40.0])
def test_a_central_release_carries_the_plans_noise_over_the_batch_size(
    make: Make, noise_multiplier: float, clip_norm: float
) -> None:
    plan = make(privacy={"noise_multiplier": noise_multiplier, "clip_norm": clip_norm})
    release = release_central(Sum(np.zeros(COUNT, dtype=np.int64)), plan, key(1))
    std = noise_multiplier * clip_norm * (1 + math.sqrt(COUNT) / 2**30) * 0.5 / 8
    assert isinstance(release, Release)
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(release.vector.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(release.vector.mean()) < 6 * std / math.sqrt(COUNT)


def test_a_central_release_is_minus_the_rate_times_the_noised_sum_over_the_public_batch_size(make: Make) -> None:
    plan = make(training={"batch_size": 40, "learning_rate": 0.25}, privacy={"clip_norm": 2.0})
    noise = gaussian(plan.noise_std(COUNT), COUNT, key(2))
    expected = -0.25 * (total().vector + noise) * (2.0 / 2**30) / 40
    assert np.allclose(release_central(total(), plan, key(2)).vector, expected, rtol=1e-12, atol=0)


def test_the_central_divisor_is_the_same_however_many_are_in_the_cohort(make: Make) -> None:
    releases = [release_central(total(), make(cohort={"size": size}), key(3)).vector for size in (2, 4)]
    assert np.array_equal(*releases)


def test_central_noise_does_not_depend_on_the_sum(make: Make) -> None:
    plan = make()
    zero = release_central(Sum(np.zeros(COUNT, dtype=np.int64)), plan, key(4)).vector
    shift = release_central(total(), plan, key(4)).vector - zero
    expected = -0.5 * total().vector * plan.grid_step / 8
    assert np.abs(shift - expected).max() < 1e-9 * np.abs(expected).max()


def test_two_central_releases_never_share_their_noise(make: Make) -> None:
    plan, keystream = make(), key(5)
    draws = [release_central(total(), plan, k).vector for k in (keystream, keystream, key(6))]
    base = -0.5 * total().vector * plan.grid_step / 8
    for one, other in ((0, 1), (0, 2), (1, 2)):
        noises = draws[one] - base, draws[other] - base
        assert abs(np.corrcoef(*noises)[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("size", [2, 4])
def test_a_local_release_is_the_sum_over_the_planned_cohort(make: Make, size: int) -> None:
    plan = make(privacy={"noise": "local", "clip_norm": 0.5}, cohort={"size": size})
    release = release_local(total(), plan, NoKeystream(bytes(32)))
    assert np.array_equal(release.vector, total().vector * (0.5 / 2**30) / size)


@pytest.mark.parametrize("cell", RELEASES)
def test_a_release_leaves_the_sum_as_it_is_and_prints_no_number(make: Make, cell: tuple[str, str]) -> None:
    opened = total()
    opened.vector.flags.writeable = False
    release = RELEASES[cell](opened, make(privacy={"noise": cell[1]}), key(7))
    assert repr(release) == f"Release(shape=({COUNT},), dtype=float64)"
    assert repr(opened) == f"Sum(shape=({COUNT},), dtype=int64)"
