from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from bract.client.protect import protect
from bract.privacy import Clipped, Keystream, Plan, Update
from bract.privacy.quantize import quantize

Make = Callable[..., Plan]
COUNT = 20_000


def key(number: int) -> Keystream:
    return Keystream(bytes([number]) * 32)


def sums(seed: int = 0, scale: float = 5.0) -> Update:
    return Update(scale * np.random.default_rng(seed).normal(size=COUNT))


def test_without_noise_the_sum_comes_out_on_the_grid_and_nothing_else(make: Make) -> None:
    plan = make(privacy={"noise": "central"})
    protected = protect(sums(), plan, noise=None)
    assert isinstance(protected, Clipped)
    assert protected.vector.dtype == np.int64
    assert np.array_equal(protected.vector, quantize(sums(), plan.grid_step).vector)


def test_the_grid_is_fine_enough_to_keep_a_sum_to_a_billionth_of_the_clip_norm(make: Make) -> None:
    plan = make(privacy={"noise": "central", "clip_norm": 0.25})
    back = protect(sums(), plan, noise=None).vector * plan.grid_step
    assert np.abs(back - sums().vector).max() <= 0.25 * 2.0**-31


@pytest.mark.parametrize("noise_multiplier", [3.0, 40.0])
@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 30.0])
def test_the_noise_has_the_plans_standard_deviation_and_no_mean(
    make: Make, noise_multiplier: float, clip_norm: float
) -> None:
    plan = make(privacy={"noise_multiplier": noise_multiplier, "clip_norm": clip_norm})
    noise = protect(sums(), plan, key(1)).vector - quantize(sums(), plan.grid_step).vector
    std = plan.noise_std(COUNT)
    assert std > noise_multiplier * 2.0**30
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(noise.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(noise.mean()) < 6 * std / math.sqrt(COUNT)


def test_the_noise_has_the_shape_of_a_gaussian(make: Make) -> None:
    plan = make()
    noise = protect(Update(np.zeros(COUNT)), plan, key(2)).vector / plan.noise_std(COUNT)
    for bound in (0.5, 1.0, 2.0, 3.0):
        within = math.erf(bound / math.sqrt(2))
        error = math.sqrt(within * (1 - within) / COUNT)
        assert abs((np.abs(noise) < bound).mean() - within) < 6 * error  # false alarm 2e-9 a bound
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 6 / math.sqrt(COUNT)


def test_the_noise_does_not_depend_on_the_sum(make: Make) -> None:
    plan = make()
    one = protect(sums(0), plan, key(3)).vector - quantize(sums(0), plan.grid_step).vector
    other = protect(sums(1, scale=1e-9), plan, key(3)).vector - quantize(sums(1, scale=1e-9), plan.grid_step).vector
    assert np.array_equal(one, other)


def test_another_keystream_gives_other_noise_and_a_keystream_never_gives_the_same_twice(make: Make) -> None:
    plan, keystream = make(), key(4)
    zero = Update(np.zeros(COUNT))
    draws = [protect(zero, plan, k).vector for k in (keystream, keystream, key(5))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(draws[one], draws[other])[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_becomes_noise_alone(make: Make, poison: float) -> None:
    plan, spoilt = make(), sums().vector.copy()
    spoilt[7] = poison
    zeros = protect(Update(np.zeros(COUNT)), plan, key(6)).vector
    assert np.array_equal(protect(Update(spoilt), plan, key(6)).vector, zeros)


def test_what_is_protected_does_not_print_its_numbers(make: Make) -> None:
    protected = protect(Update(np.full(3, 0.125)), make(privacy={"noise": "central"}), noise=None)
    assert repr(protected) == "Clipped(shape=(3,), dtype=int64)"
