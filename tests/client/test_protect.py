from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bract.client.protect import add_noise, clip, mask, protect
from bract.privacy import Clipped, Keystream, Masked, Plan, Update
from bract.privacy.encoding.quantization import quantize
from bract.privacy.secagg.masks import Mask

Make = Callable[..., Plan]
COUNT = 20_000
SECURE = {"aggregation": {"protocol": "secagg"}, "cohort": {"size": 2}}


def key(number: int) -> Keystream:
    return Keystream(bytes([number]) * 32)


def sums(seed: int = 0, scale: float = 5.0) -> Update:
    return Update(scale * np.random.default_rng(seed).normal(size=COUNT))


def noised(update: Update, plan: Plan, keystream: Keystream) -> np.ndarray:
    """The noised sum in steps of the noise's grid."""
    return add_noise(update, plan, keystream).vector


def steps(update: Update, plan: Plan) -> np.ndarray:
    """The sum in the same steps, without noise."""
    return quantize(update, plan.noise_step).vector


# Noise


@pytest.mark.parametrize("noise_multiplier", [3.0, 40.0])
@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 30.0])
def test_the_noise_has_the_plans_standard_deviation_and_no_mean(
    make: Make, noise_multiplier: float, clip_norm: float
) -> None:
    plan = make(privacy={"noise_multiplier": noise_multiplier, "clip_norm": clip_norm})
    noise = (noised(sums(), plan, key(1)) - steps(sums(), plan)) * plan.noise_step
    std = plan.noise_std(COUNT)
    assert std > noise_multiplier * clip_norm
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(noise.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(noise.mean()) < 6 * std / math.sqrt(COUNT)


def test_the_noise_has_the_shape_of_a_gaussian(make: Make) -> None:
    plan = make()
    noise = noised(Update(np.zeros(COUNT)), plan, key(2)) * plan.noise_step / plan.noise_std(COUNT)
    for bound in (0.5, 1.0, 2.0, 3.0):
        within = math.erf(bound / math.sqrt(2))
        error = math.sqrt(within * (1 - within) / COUNT)
        assert abs((np.abs(noise) < bound).mean() - within) < 6 * error  # false alarm 2e-9 a bound
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 6 / math.sqrt(COUNT)


def test_the_noise_is_added_on_a_grid_of_a_billionth_of_the_clip_norm_whatever_the_ring(make: Make) -> None:
    for bits in (None, 12, 64):
        plan = make(privacy={"clip_norm": 0.25}, aggregation={} if bits is None else {"bits": bits})
        assert plan.noise_step == 0.25 * 2.0**-30
        assert np.abs(steps(sums(), plan) * plan.noise_step - sums().vector).max() <= 0.25 * 2.0**-31


def test_the_noise_does_not_depend_on_the_sum(make: Make) -> None:
    plan = make()
    one = noised(sums(0), plan, key(3)) - steps(sums(0), plan)
    other = noised(sums(1, scale=1e-9), plan, key(3)) - steps(sums(1, scale=1e-9), plan)
    assert np.array_equal(one, other)


def test_another_keystream_gives_other_noise_and_a_keystream_never_gives_the_same_twice(make: Make) -> None:
    plan, keystream = make(), key(4)
    zero = Update(np.zeros(COUNT))
    draws = [noised(zero, plan, k) for k in (keystream, keystream, key(5))]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(draws[one], draws[other])[0, 1]) < 6 / math.sqrt(COUNT)  # false alarm 2e-9


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_sum_that_is_not_finite_becomes_noise_alone(make: Make, poison: float) -> None:
    plan, spoilt = make(), sums().vector.copy()
    spoilt[7] = poison
    zeros = noised(Update(np.zeros(COUNT)), plan, key(6))
    assert np.array_equal(noised(Update(spoilt), plan, key(6)), zeros)


# The clip of a device's whole change

ROUNDING = 1 + 1e-12
numbers = st.floats(-1e300, 1e300) | st.floats(-1e3, 1e3) | st.floats(-1e-300, 1e-300)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector=arrays(np.float64, st.integers(1, 60), elements=numbers), norm=st.sampled_from([1e-6, 0.4, 1e6]))
def test_a_clipped_change_is_no_longer_than_the_plan_says_and_keeps_its_direction(
    make: Make, vector: np.ndarray, norm: float
) -> None:
    plan = make(privacy={"clip_norm": norm})
    clipped = clip(Update(vector), plan).vector
    length = math.hypot(*vector)
    factor = min(1.0, plan.safe_clip_norm / length) if length else 1.0
    assert math.hypot(*clipped) <= plan.safe_clip_norm * ROUNDING < norm
    assert np.allclose(clipped, vector * factor, rtol=1e-12, atol=1e-320)


def test_a_change_within_the_clip_norm_is_left_as_it_is(make: Make) -> None:
    plan = make(privacy={"clip_norm": 5.0})
    vector = np.array([3.0, -4.0]) * (1 - 2 * 2.0**-10)
    assert np.array_equal(clip(Update(vector), plan).vector, vector)
    assert math.hypot(*clip(Update(vector * 1.01), plan).vector) == pytest.approx(5.0 * 1023 / 1024)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_change_that_is_not_finite_becomes_zeros_before_it_is_clipped(make: Make, poison: float, at: int) -> None:
    vector = np.ones(20)
    vector[at] = poison
    clipped = clip(Update(vector), make()).vector
    assert clipped.shape == (20,)
    assert not clipped.any()
    assert not np.signbit(clipped).any()


@pytest.mark.parametrize("largest", [1e155, 1e200, np.finfo(np.float64).max])
def test_the_largest_numbers_overflow_nowhere(make: Make, largest: float) -> None:
    """Their squares do, and the norm of the last ones is beyond all numbers."""
    plan = make(privacy={"clip_norm": 1e6})
    clipped = clip(Update(np.full(50, -largest)), plan).vector
    assert np.isfinite(clipped).all()
    assert math.hypot(*clipped) <= plan.safe_clip_norm * ROUNDING


def test_a_change_is_clipped_as_a_whole_in_float64_and_not_in_place(make: Make) -> None:
    vector = np.full(1000, 7.0, dtype=np.float32)
    vector.flags.writeable = False
    clipped = clip(Update(vector), make()).vector
    assert clipped.dtype == np.float64
    assert np.unique(clipped).size == 1
    assert repr(clip(Update(vector), make())) == "Update(shape=(1000,), dtype=float64)"


# The sums' grid


@pytest.mark.parametrize("tables", [{"privacy": {"noise": "central"}}, {}, {"aggregation": {"bits": 64}}])
def test_an_update_comes_out_on_the_sums_grid_and_nothing_else(make: Make, tables: dict[str, Any]) -> None:
    plan = make(**tables)
    update = sums(scale=plan.range / 10)
    protected = protect(update, plan)
    assert isinstance(protected, Clipped)
    assert protected.vector.dtype == np.int64
    assert np.array_equal(protected.vector, quantize(update, plan.grid_step).vector)
    assert np.abs(protected.vector * plan.grid_step - update.vector).max() <= plan.grid_step * (0.5 + 1e-9)


def test_the_grid_is_fine_enough_to_keep_a_sum_to_what_the_noise_hides(make: Make) -> None:
    """With central noise to 2^-16 of the clip norm, with a device's own to a sixteenth of its deviation."""
    central = make(privacy={"noise": "central", "clip_norm": 0.25})
    update = sums(scale=0.1)
    assert np.abs(protect(update, central).vector * central.grid_step - update.vector).max() <= 0.25 * 2.0**-16
    local = make(training={"batch_size": 4, "learning_rate": 0.5}, privacy={"noise_multiplier": 40.0})
    assert np.abs(protect(update, local).vector * local.grid_step - update.vector).max() <= 40.0 * 0.5 / 4 / 16


@pytest.mark.parametrize("noise", ["central", "local"])
@pytest.mark.parametrize("size", [1, 2])
def test_an_update_saturates_where_the_cohorts_sum_would_overflow(make: Make, noise: str, size: int) -> None:
    plan = make(privacy={"noise": noise}, cohort={"size": size})
    vector = protect(Update(np.array([1e300, -1e300, 1.01 * plan.range, 0.0])), plan).vector
    assert vector.tolist() == [plan.bound, -plan.bound, plan.bound, 0]
    assert size * plan.bound < 2 ** (plan.ring.bits - 1)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_becomes_zeros(make: Make, poison: float) -> None:
    assert protect(Update(np.array([1.0, poison, 2.0])), make()).vector.tolist() == [0, 0, 0]


def test_what_is_protected_does_not_print_its_numbers(make: Make) -> None:
    protected = protect(Update(np.full(3, 0.125)), make(privacy={"noise": "central"}))
    assert repr(protected) == "Clipped(shape=(3,), dtype=int64)"


# Masks


def test_without_secure_aggregation_the_words_are_the_vector_in_the_plans_ring(make: Make) -> None:
    plan = make()
    clipped = Clipped(np.arange(-20, 31, dtype=np.int64))
    words = mask(clipped, plan, [])
    assert isinstance(words, Masked)
    assert words.vector.dtype == np.uint64
    assert np.array_equal(plan.ring.decode(words.vector, 51), clipped.vector)
    assert repr(words) == "Masked(shape=(11,), dtype=uint64)"


def test_masks_cover_every_word_and_come_off_again(make: Make) -> None:
    plan = make(**SECURE)
    clipped = Clipped(np.arange(-20, 31, dtype=np.int64))
    bare = plan.ring.encode(clipped.vector)
    once = mask(clipped, plan, [Mask(bytes(32), 1)]).vector
    assert not np.any(once == bare)  # by chance: 11 in 2^64
    both = mask(clipped, plan, [Mask(bytes(32), 1), Mask(bytes(32), -1)]).vector
    assert np.array_equal(both, bare)
    assert np.array_equal(clipped.vector, np.arange(-20, 31))


def test_a_secure_plan_lets_nothing_out_without_a_mask_and_another_plan_nothing_under_one(make: Make) -> None:
    clipped = Clipped(np.zeros(5, dtype=np.int64))
    with pytest.raises(ValueError, match="masks where the plan has none, or none where it has"):
        mask(clipped, make(**SECURE), [])
    with pytest.raises(ValueError, match="masks where the plan has none, or none where it has"):
        mask(clipped, make(), [Mask(bytes(32), 1)])
