"""Vectors on a grid: rounding, saturation and the sensitivity for it."""

from __future__ import annotations

import math
from fractions import Fraction

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Keystream, Plan, mechanism_of
from bract.privacy.encoding.quantization import dequantize, quantize, round_randomly
from bract.privacy.encoding.ring import CHUNK, LARGEST
from bract.privacy.plan.plan import Aggregation, Privacy

STEP = 2.0**-30
vectors = arrays.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e4, 1e4))


def steps(values: list[float], step: float = 1.0, **bound: int) -> list[int]:
    return quantize(np.array(values), step, **bound).tolist()


def test_rounds_to_the_nearest_step_and_halves_to_even() -> None:
    assert steps([0.0, 0.4, -0.4, 0.6, -0.6, 0.5, 1.5, -0.5, -1.5, 2.5]) == [0, 0, 0, 1, -1, 0, 2, 0, -2, 2]


@given(vectors)
def test_a_round_trip_moves_no_coordinate_over_half_a_step(vector: np.ndarray) -> None:
    back = dequantize(quantize(vector, STEP), STEP)
    assert back.shape == vector.shape
    assert np.all(np.abs(back - vector) <= STEP / 2)


@given(arrays.arrays(np.int64, st.integers(0, 40), elements=st.integers(-LARGEST, LARGEST)), st.floats(1e-12, 1e3))
def test_whole_steps_survive_a_round_trip_exactly(vector: np.ndarray, step: float) -> None:
    assert quantize(dequantize(vector, step), step).tolist() == vector.tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_coordinate_that_is_not_finite_makes_all_zero(bad: float, dtype: type) -> None:
    """The whole vector becomes zero."""
    clipped = quantize(np.array([1.0, bad, 3.0], dtype=dtype), STEP)
    assert clipped.tolist() == [0, 0, 0]
    assert clipped.dtype == np.int64


def test_saturates_at_the_largest_coordinate_in_either_direction() -> None:
    assert steps([1e300, -1e300, LARGEST - 1.0, LARGEST + 1.0]) == [LARGEST, -LARGEST, LARGEST - 1, LARGEST]


def test_saturates_at_the_bound_in_either_direction() -> None:
    assert steps([6.4, 6.6, 7.4, 8.0, 1e300], bound=7) == [6, 7, 7, 7, 7]
    assert steps([-6.4, -6.6, -7.4, -8.0, -1e300], bound=7) == [-6, -7, -7, -7, -7]
    assert steps([3.0, -3.0, 0.2], bound=0) == [0, 0, 0]


def test_saturated_updates_of_65536_devices_fit_in_64_bits() -> None:
    """Their sum does not wrap around."""
    assert LARGEST * 2**16 < 2**63


@pytest.mark.parametrize("place", [0, CHUNK - 1, CHUNK, 2 * CHUNK])
def test_a_vector_longer_than_a_chunk_is_quantized_whole(
    place: int,
) -> None:
    """It is zero if any coordinate is not finite."""
    vector = np.linspace(-9.0, 9.0, 2 * CHUNK + 1)
    found = quantize(vector, 0.25, 30)
    assert np.array_equal(found, np.rint(np.clip(vector * 4, -30, 30)))
    vector[place] = math.nan
    assert not quantize(vector, 0.25, 30).any()


@given(vectors)
def test_does_not_write_to_the_update(vector: np.ndarray) -> None:
    before = vector.copy()
    quantize(vector, STEP, 10)
    assert np.array_equal(vector, before)


def test_a_single_precision_update_is_quantized_in_double() -> None:
    """It is converted to double precision first."""
    vector = np.array([1.0, 1 / 3, 1e-7], dtype=np.float32)
    assert quantize(vector, STEP).tolist() == steps(vector.astype(np.float64).tolist(), STEP)


def test_an_empty_update_stays_empty() -> None:
    assert steps([]) == []


# Sensitivity: how far a record moves what noise is added to


def rounded(plan: Plan, vector: np.ndarray) -> np.ndarray:
    """The vector in real numbers, rounded to the grid that the plan adds its noise to: the sums' or a step's own."""
    mechanism = mechanism_of(plan)
    if plan.privacy.noise == "local":
        return dequantize(quantize(vector, mechanism.grid.noise_step), mechanism.grid.noise_step)
    return dequantize(quantize(vector, mechanism.grid.step, mechanism.grid.bound), mechanism.grid.step)


def largest(plan: Plan) -> float:
    """Where such a vector saturates."""
    mechanism = mechanism_of(plan)
    local = plan.privacy.noise == "local"
    return LARGEST * mechanism.grid.noise_step if local else mechanism.grid.bound * mechanism.grid.step


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
def test_a_record_moves_a_rounded_vector_by_the_sensitivity(
    plan: Plan, vector: np.ndarray, seed: int, share: float
) -> None:
    """It is within the clip norm, and moves the vector by no more."""
    count = len(vector)
    record = np.random.default_rng(seed).normal(size=count)
    record *= share * plan.safe_clip_norm / max(np.linalg.norm(record), 1e-300)
    here, there = rounded(plan, vector), rounded(plan, vector + record)
    assert np.linalg.norm(there - here) <= mechanism_of(plan).sensitivity(count)


@plans
def test_saturation_brings_neighbours_closer_never_further_apart(plan: Plan) -> None:
    count, edge, clip_norm = 100, largest(plan), plan.privacy.clip_norm
    near = np.linspace(edge - clip_norm, edge + clip_norm, count)
    record = np.full(count, plan.safe_clip_norm / math.sqrt(count))
    here, there = rounded(plan, near), rounded(plan, near + record)
    assert 0 < np.linalg.norm(there - here) <= mechanism_of(plan).sensitivity(count)
    assert there.max() == here.max() == edge


@plans
def test_the_allowance_for_rounding_is_needed_and_nearly_used(plan: Plan) -> None:
    """Every coordinate sits just below a rounding edge: a clip norm that is barely more lifts each by one more."""
    count, step = (
        10_000,
        mechanism_of(plan).grid.noise_step if plan.privacy.noise == "local" else mechanism_of(plan).grid.step,
    )
    whole = int(plan.privacy.clip_norm / step / math.sqrt(count))
    here = np.full(count, 0.4375)
    there = here + whole + 0.125  # in steps
    distance = float(np.linalg.norm(rounded(plan, there * step) - rounded(plan, here * step))) / step
    real = float(np.linalg.norm(there - here))
    assert real < distance - 0.8 * math.sqrt(count)
    assert distance <= real + math.sqrt(count)
    carried = 0 if plan.privacy.noise == "local" else 100  # one more a coordinate, from the next lane
    assert mechanism_of(plan).sensitivity(count) == pytest.approx(
        plan.privacy.clip_norm + (100 + carried) * step, rel=1e-12
    )


# Random rounding

KEY = bytes(range(32))
STEPS = st.sampled_from([2.0**-10, 0.25, 1.0, 8.0])
FINE = arrays.arrays(np.int64, st.integers(1, 40), elements=st.integers(-(2**30), 2**30))
"""Whole numbers of 2^-20 steps: with such, float64 makes no error, and neither do 32 bits of draws."""


class Fed(Keystream):
    """A keystream whose half words are chosen beforehand."""

    def __init__(self, half_words: np.ndarray) -> None:
        super().__init__(bytes(32))
        self.left = half_words.astype("<u4").tobytes()

    def bytes(self, count: int) -> bytes:
        given, self.left = self.left[:count], self.left[count:]
        return given


EVERY = np.arange(2**16, dtype=np.uint32) << 16
"""Draws that hit each 65,536th part of a step once: over them frequencies are exact."""


@given(FINE, STEPS)
def test_random_rounding_is_the_floor_of_the_number_and_its_draw(numbers: np.ndarray, step: float) -> None:
    draws = Keystream(KEY).half_words(len(numbers)).tolist()
    exact = [Fraction(n, 2**20) + Fraction(w, 2**32) for n, w in zip(numbers.tolist(), draws, strict=True)]
    found = round_randomly(numbers * 2.0**-20 * step, step, Keystream(KEY))
    assert found.tolist() == [math.floor(number) for number in exact]
    assert found.dtype == np.int64


@given(vectors, st.floats(0.01, 1e3), st.binary(min_size=32, max_size=32))
def test_random_rounding_moves_no_coordinate_by_a_whole_step(vector: np.ndarray, step: float, key: bytes) -> None:
    assert np.all(np.abs(round_randomly(vector, step, Keystream(key)) - vector / step) < 1)


@given(
    arrays.arrays(np.int64, st.integers(0, 40), elements=st.integers(-(2**20), 2**20)),
    STEPS,
    st.binary(min_size=32, max_size=32),
)
def test_random_rounding_leaves_whole_steps_as_they_are(vector: np.ndarray, step: float, key: bytes) -> None:
    assert np.array_equal(round_randomly(vector * step, step, Keystream(key)), vector)


@pytest.mark.parametrize("number", [0.0, 0.25, 0.5, 0.8125, -0.0625, -7.375, 1234.0009765625])
def test_the_mean_of_random_rounding_is_the_number(number: float) -> None:
    """The mean is over all draws."""
    rounded = round_randomly(np.full(len(EVERY), number), 1.0, Fed(EVERY))
    assert set(rounded.tolist()) <= {math.floor(number), math.ceil(number)}
    assert rounded.mean() == number


def test_random_rounding_is_unbiased() -> None:
    """A z test of the mean of 40,000 roundings of each of 25 numbers, at 6 deviations: false alarm 5e-8."""
    numbers, count = np.linspace(-1.98, 2.02, 25), 40_000
    rounded = round_randomly(np.repeat(numbers, count), 1.0, Keystream(KEY)).reshape(25, count)
    fraction = numbers - np.floor(numbers)
    errors = (rounded.mean(axis=1) - numbers) / np.sqrt(fraction * (1 - fraction) / count)
    assert np.abs(errors).max() < 6
    assert np.abs(rounded.std(axis=1) / np.sqrt(fraction * (1 - fraction)) - 1).max() < 0.1


@given(FINE, STEPS, st.data())
def test_equal_draws_round_a_difference_to_floor_or_ceiling(
    numbers: np.ndarray, step: float, data: st.DataObject
) -> None:
    """Two vectors that are rounded by the same draws differ by the floor or the ceiling of their real difference."""
    elements = st.integers(-(2**30), 2**30) | st.integers(-(2**20), 2**20)
    move = data.draw(arrays.arrays(np.int64, len(numbers), elements=elements))
    here, there = (round_randomly(n * 2.0**-20 * step, step, Keystream(KEY)) for n in (numbers, numbers + move))
    least, rest = np.divmod(move, 2**20)
    assert np.all((there - here == least) | ((there - here == least + 1) & (rest > 0)))


@pytest.mark.parametrize("number", [0.0, 0.5, 0.9375, -3.25, 17.3])
@pytest.mark.parametrize("move", [0.0, 0.125, 0.5, 0.9375, 1.0, -0.25, -1.75, 40.625])
def test_the_difference_is_rounded_up_as_its_fraction_says(number: float, move: float) -> None:
    """Over all draws, as often."""
    here, there = (round_randomly(np.full(len(EVERY), n), 1.0, Fed(EVERY)) for n in (number, number + move))
    least = math.floor(move)
    assert set((there - here).tolist()) <= {least, least + 1}
    assert (there - here == least + 1).mean() == pytest.approx(move - least, abs=2**-16)
    assert ((there - here) ** 2).mean() <= move**2 + 1 / 4 + 1e-9


def test_the_fraction_decides_whatever_the_numbers_are() -> None:
    """A z test of the frequency of the ceiling in each of 30 differences, at 6 deviations: false alarm 6e-8."""
    generator, count = np.random.default_rng(5), 40_000
    numbers, moves = generator.normal(0, 9, (30, count)), generator.normal(0, 3, (30, 1))
    here, there = (
        round_randomly(v.ravel(), 1.0, Keystream(KEY)).reshape(30, count) for v in (numbers, numbers + moves)
    )
    fraction = moves - np.floor(moves)
    often = (there - here == np.floor(moves) + 1).mean(axis=1, keepdims=True)
    assert np.abs((often - fraction) / np.sqrt(fraction * (1 - fraction) / count)).max() < 6


def test_every_coordinate_of_a_long_vector_has_a_draw_of_its_own() -> None:
    """Halves: each half word's first bit decides. Two chunks agree in half of all places (6 deviations: 2e-9)."""
    count = 2 * CHUNK + 5
    rounded = round_randomly(np.full(count, 0.5), 1.0, Keystream(KEY))
    assert np.array_equal(rounded, Keystream(KEY).half_words(count) >> 31)
    agree = (rounded[:CHUNK] == rounded[CHUNK : 2 * CHUNK]).sum()
    assert abs(int(agree) - CHUNK / 2) < 6 * math.sqrt(CHUNK) / 2


def test_random_rounding_does_not_write_to_its_vector() -> None:
    """It keeps an empty one."""
    vector = np.linspace(-3, 3, 9)
    before = vector.copy()
    round_randomly(vector, 0.25, Keystream(KEY))
    assert np.array_equal(vector, before)
    assert round_randomly(np.zeros(0), 0.25, Keystream(KEY)).shape == (0,)
