from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Plan, Update
from bract.privacy.quantize import LARGEST, dequantize, quantize

STEP = 2.0**-30
vectors = arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e4, 1e4))


def steps(values: list[float], step: float = 1.0) -> list[int]:
    return quantize(Update(np.array(values)), step).vector.tolist()


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


def test_a_sum_of_saturated_updates_of_65536_devices_fits_in_64_bits() -> None:
    assert LARGEST * 2**16 < 2**63


def test_a_single_precision_update_is_quantized_in_double_precision() -> None:
    vector = np.array([1.0, 1 / 3, 1e-7], dtype=np.float32)
    assert quantize(Update(vector), STEP).vector.tolist() == steps(vector.astype(np.float64).tolist(), STEP)


def test_an_empty_update_stays_empty() -> None:
    assert steps([]) == []


@given(vectors, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_a_record_within_the_clip_norm_moves_the_grid_vector_by_at_most_the_sensitivity(
    vector: np.ndarray, seed: int, share: float
) -> None:
    plan, count = Plan(), len(vector)
    record = np.random.default_rng(seed).normal(size=count)
    record *= share * plan.record_clip_norm / max(np.linalg.norm(record), 1e-300)
    here, there = (quantize(Update(v), plan.grid_step).vector for v in (vector, vector + record))
    assert np.linalg.norm((there - here).astype(np.float64)) <= plan.sensitivity(count)


def test_saturation_brings_neighbours_closer_never_further_apart() -> None:
    plan, count = Plan(), 100
    edge = LARGEST * plan.grid_step
    near = np.linspace(edge - 1.0, edge + 1.0, count)
    record = np.full(count, plan.record_clip_norm / math.sqrt(count))
    here, there = (quantize(Update(v), plan.grid_step).vector for v in (near, near + record))
    assert 0 < np.linalg.norm((there - here).astype(np.float64)) <= plan.sensitivity(count)


def test_the_allowance_for_rounding_in_the_sensitivity_is_needed_and_nearly_used() -> None:
    """Every coordinate sits just below a rounding edge: a clip norm that is barely more lifts each by one more."""
    plan, count = Plan(), 10_000
    whole = int(2**30 / math.sqrt(count))
    here = np.full(count, 0.4375)
    there = here + whole + 0.125  # in steps
    moved = [quantize(Update(v * plan.grid_step), plan.grid_step).vector for v in (here, there)]
    distance = float(np.linalg.norm((moved[1] - moved[0]).astype(np.float64)))
    real = float(np.linalg.norm(there - here))
    assert real < distance - 0.8 * math.sqrt(count)
    assert distance <= real + math.sqrt(count)
    assert plan.sensitivity(count) == pytest.approx(2**30 + 100, abs=1e-6)
