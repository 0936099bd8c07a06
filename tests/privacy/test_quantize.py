from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, Update
from bract.privacy.plan import Aggregation, Privacy
from bract.privacy.quantize import dequantize, quantize
from bract.privacy.ring import CHUNK, LARGEST

STEP = 2.0**-30
vectors = arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e4, 1e4))


def steps(values: list[float], step: float = 1.0, **bound: int) -> list[int]:
    return quantize(Update(np.array(values)), step, **bound).vector.tolist()


def test_rounds_to_the_nearest_step_and_halves_to_even() -> None:
    assert steps([0.0, 0.4, -0.4, 0.6, -0.6, 0.5, 1.5, -0.5, -1.5, 2.5]) == [0, 0, 0, 1, -1, 0, 2, 0, -2, 2]


@given(vectors)
def test_a_round_trip_moves_no_coordinate_by_more_than_half_a_step(vector: np.ndarray) -> None:
    back = dequantize(quantize(Update(vector), STEP).vector, STEP)
    assert back.shape == vector.shape
    assert np.all(np.abs(back - vector) <= STEP / 2)


@given(arrays.arrays(np.int64, st.integers(0, 40), elements=st.integers(-LARGEST, LARGEST)), st.floats(1e-12, 1e3))
def test_whole_steps_survive_a_round_trip_exactly(vector: np.ndarray, step: float) -> None:
    assert quantize(Update(dequantize(vector, step)), step).vector.tolist() == vector.tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_coordinate_that_is_not_finite_makes_the_whole_vector_zero(bad: float, dtype: type) -> None:
    clipped = quantize(Update(np.array([1.0, bad, 3.0], dtype=dtype)), STEP).vector
    assert clipped.tolist() == [0, 0, 0]
    assert clipped.dtype == np.int64


def test_saturates_at_the_largest_coordinate_in_either_direction() -> None:
    assert steps([1e300, -1e300, LARGEST - 1.0, LARGEST + 1.0]) == [LARGEST, -LARGEST, LARGEST - 1, LARGEST]


def test_saturates_at_the_bound_in_either_direction() -> None:
    assert steps([6.4, 6.6, 7.4, 8.0, 1e300], bound=7) == [6, 7, 7, 7, 7]
    assert steps([-6.4, -6.6, -7.4, -8.0, -1e300], bound=7) == [-6, -7, -7, -7, -7]
    assert steps([3.0, -3.0, 0.2], bound=0) == [0, 0, 0]


def test_a_sum_of_saturated_updates_of_65536_devices_fits_in_64_bits() -> None:
    assert LARGEST * 2**16 < 2**63


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_a_vector_longer_than_a_chunk_is_quantized_whole_and_is_zero_if_any_coordinate_is_not_finite(
    place: int,
) -> None:
    vector = np.linspace(-9.0, 9.0, 2 * CHUNK + 1)
    found = quantize(Update(vector), 0.25, 30).vector
    assert np.array_equal(found, np.rint(np.clip(vector * 4, -30, 30)))
    vector[place] = math.nan
    assert not quantize(Update(vector), 0.25, 30).vector.any()


@given(vectors)
def test_does_not_write_to_the_update(vector: np.ndarray) -> None:
    before = vector.copy()
    quantize(Update(vector), STEP, 10)
    assert np.array_equal(vector, before)


def test_a_single_precision_update_is_quantized_in_double_precision() -> None:
    vector = np.array([1.0, 1 / 3, 1e-7], dtype=np.float32)
    assert quantize(Update(vector), STEP).vector.tolist() == steps(vector.astype(np.float64).tolist(), STEP)


def test_an_empty_update_stays_empty() -> None:
    assert steps([]) == []


# Sensitivity: how far a record moves what noise is added to


def rounded(plan: Plan, vector: np.ndarray) -> np.ndarray:
    """The vector in real numbers, rounded to the grid that the plan adds its noise to: the sums' or a step's own."""
    if plan.privacy.noise == "local":
        return dequantize(quantize(Update(vector), plan.noise_step).vector, plan.noise_step)
    return dequantize(quantize(Update(vector), plan.grid_step, plan.bound).vector, plan.grid_step)


def largest(plan: Plan) -> float:
    """Where such a vector saturates."""
    return LARGEST * plan.noise_step if plan.privacy.noise == "local" else plan.bound * plan.grid_step


PLANS = {
    "central": Plan(),
    "central, finest grid": Plan(aggregation=Aggregation(bits=64)),
    "central, coarse grid": Plan(aggregation=Aggregation(bits=21, range=2.0)),
    "central, large clip norm": Plan(privacy=Privacy(clip_norm=300.0)),
    "local": Plan(privacy=Privacy(noise="local", noise_multiplier=3.0)),
}
plans = pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())


@plans
@given(vectors, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_record_within_the_clip_norm_moves_the_rounded_vector_by_at_most_the_sensitivity(
    plan: Plan, vector: np.ndarray, seed: int, share: float
) -> None:
    count = len(vector)
    record = np.random.default_rng(seed).normal(size=count)
    record *= share * plan.record_clip_norm / max(np.linalg.norm(record), 1e-300)
    here, there = rounded(plan, vector), rounded(plan, vector + record)
    assert np.linalg.norm(there - here) <= plan.sensitivity(count)


@plans
def test_saturation_brings_neighbours_closer_never_further_apart(plan: Plan) -> None:
    count, edge, clip_norm = 100, largest(plan), plan.privacy.clip_norm
    near = np.linspace(edge - clip_norm, edge + clip_norm, count)
    record = np.full(count, plan.record_clip_norm / math.sqrt(count))
    here, there = rounded(plan, near), rounded(plan, near + record)
    assert 0 < np.linalg.norm(there - here) <= plan.sensitivity(count)
    assert there.max() == here.max() == edge


@plans
def test_the_allowance_for_rounding_in_the_sensitivity_is_needed_and_nearly_used(plan: Plan) -> None:
    """Every coordinate sits just below a rounding edge: a clip norm that is barely more lifts each by one more."""
    count, step = 10_000, plan.noise_step if plan.privacy.noise == "local" else plan.grid_step
    whole = int(plan.privacy.clip_norm / step / math.sqrt(count))
    here = np.full(count, 0.4375)
    there = here + whole + 0.125  # in steps
    distance = float(np.linalg.norm(rounded(plan, there * step) - rounded(plan, here * step))) / step
    real = float(np.linalg.norm(there - here))
    assert real < distance - 0.8 * math.sqrt(count)
    assert distance <= real + math.sqrt(count)
    assert plan.sensitivity(count) == pytest.approx(plan.privacy.clip_norm + 100 * step, rel=1e-12)
