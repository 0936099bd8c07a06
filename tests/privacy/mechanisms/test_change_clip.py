"""The clip of a device's whole change of the model: its length, its direction, and numbers beyond all measure."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bract.privacy import Clipped, Plan, Release, Update, mechanism_of
from bract.privacy.mechanisms.change_clip import LEAST_SCALE, clip_change, next_scale, share_within

Make = Callable[..., Plan]
ROUNDING = 1 + 1e-12
numbers = st.floats(-1e300, 1e300) | st.floats(-1e3, 1e3) | st.floats(-1e-300, 1e-300)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(vector=arrays(np.float64, st.integers(1, 60), elements=numbers), norm=st.sampled_from([1e-6, 0.4, 1e6]))
def test_a_clipped_change_keeps_its_direction(make: Make, vector: np.ndarray, norm: float) -> None:
    """It is short enough."""
    plan = make(privacy={"clip_norm": norm})
    clipped = clip_change(Update(vector), plan).vector
    length = math.hypot(*vector)
    factor = min(1.0, plan.safe_clip_norm / length) if length else 1.0
    assert math.hypot(*clipped) <= plan.safe_clip_norm * ROUNDING < norm
    assert np.allclose(clipped, vector * factor, rtol=1e-12, atol=1e-320)


def test_a_change_within_the_clip_norm_is_left_as_it_is(make: Make) -> None:
    plan = make(privacy={"clip_norm": 5.0})
    vector = np.array([3.0, -4.0]) * (1 - 2 * 2.0**-10)
    assert np.array_equal(clip_change(Update(vector), plan).vector, vector)
    assert math.hypot(*clip_change(Update(vector * 1.01), plan).vector) == pytest.approx(5.0 * 1023 / 1024)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 7, 19])
def test_a_change_that_is_not_finite_becomes_zeros(make: Make, poison: float, at: int) -> None:
    vector = np.ones(20)
    vector[at] = poison
    clipped = clip_change(Update(vector), make()).vector
    assert clipped.shape == (20,)
    assert not clipped.any()
    assert not np.signbit(clipped).any()


@pytest.mark.parametrize("largest", [1e155, 1e200, np.finfo(np.float64).max])
def test_the_largest_numbers_overflow_nowhere(make: Make, largest: float) -> None:
    """Their squares do, and the norm of the last ones is beyond all numbers."""
    plan = make(privacy={"clip_norm": 1e6})
    clipped = clip_change(Update(np.full(50, -largest)), plan).vector
    assert np.isfinite(clipped).all()
    assert math.hypot(*clipped) <= plan.safe_clip_norm * ROUNDING


def test_a_change_is_clipped_as_a_whole_and_not_in_place(make: Make) -> None:
    vector = np.full(1000, 7.0, dtype=np.float32)
    vector.flags.writeable = False
    clipped = clip_change(Update(vector), make()).vector
    assert isinstance(clip_change(Update(vector), make()), Clipped)
    assert clipped.dtype == np.float64
    assert np.unique(clipped).size == 1
    assert repr(clip_change(Update(vector), make())) == "Clipped(shape=(1000,), dtype=float64)"


def adaptive(make: Make, **privacy: float) -> Plan:
    """A plan whose clip norm adapts until half of the changes are within it."""
    keys = {"unit": "client", "noise": "central", "sampling_rate": 1.0, "clip_quantile": 0.5, "noise_multiplier": 9.0}
    return make(privacy=keys | privacy)


def test_the_last_coordinate_says_if_a_change_is_within(make: Make) -> None:
    """The mean of the last coordinates gives the fraction of the changes that were within the clip norm."""
    plan = adaptive(make)
    short, long = (clip_change(Update(np.full(4, size)), plan).vector for size in (1e-3, 1e3))
    assert len(short) == len(long) == 5
    assert (share_within(short[-1], plan), share_within(long[-1], plan)) == (1.0, 0.0)
    for within in (0, 1, 3, 4):
        mean = (within * short[-1] + (4 - within) * long[-1]) / 4
        assert share_within(mean, plan) == pytest.approx(within / 4)


def test_an_average_leaves_out_the_last_coordinate_alone(make: Make) -> None:
    plan = adaptive(make)
    change = clip_change(Update(np.array([0.25, 0.5, 0.125])), plan).vector
    release = mechanism_of(plan).averaged(plan.cohort.size * change)
    assert np.allclose(release.vector, [0.25, 0.5, 0.125])
    assert release.inside == 1.0


@pytest.mark.parametrize(("inside", "seen"), [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (-4.0, 0.0), (9.0, 1.0)])
def test_the_next_scale_is_the_geometric_update(make: Make, inside: float, seen: float) -> None:
    """Noise may take the fraction beyond 0 and 1; it counts as these. Without a fraction the scale stays."""
    plan = adaptive(make)
    factor = math.exp(plan.privacy.clip_rate * (0.5 - seen))
    assert next_scale(plan, 2.0, Release(np.zeros(3), inside)) == pytest.approx(2.0 * factor)
    assert next_scale(plan, 2.0, Release(np.zeros(3))) == 2.0


def test_the_scale_stays_within_its_limits(make: Make) -> None:
    plan = adaptive(make)
    assert next_scale(plan, LEAST_SCALE, Release(np.zeros(3), 1.0)) == LEAST_SCALE
    assert next_scale(plan, 1 / LEAST_SCALE, Release(np.zeros(3), 0.0)) == 1 / LEAST_SCALE
