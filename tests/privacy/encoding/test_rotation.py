"""The random rotation: signs and a Hadamard transform of each block."""

from __future__ import annotations

import math

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Keystream
from bract.privacy.encoding.rotation import BLOCK, padded, rotate, unrotate

SEED = bytes(range(32))
COUNTS = [1, 2, 3, 64, 65, 1000, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 10_000]
counts = pytest.mark.parametrize("count", COUNTS)
seeds = st.binary(min_size=32, max_size=32)
vectors = arrays.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e3, 1e3))


def block_of(count: int) -> int:
    """How many coordinates are mixed with one another, by the definition: a power of two, 4,096 at most."""
    size = 2
    while size < min(count, 4096):
        size *= 2
    return size


def sign(i: int, j: int) -> int:
    """Entry i, j of the Hadamard matrix of entries 1 and -1, by the parity of the bits that i and j share."""
    return 1 - 2 * ((i & j).bit_count() % 2)


def random_signs(seed: bytes, count: int) -> np.ndarray:
    """The first bits of the seed's keystream, the highest of a byte first: a one is a minus."""
    stream = Keystream(seed).bytes(-(-count // 8))
    return np.array([-1.0 if stream[i // 8] >> (7 - i % 8) & 1 else 1.0 for i in range(count)])


def dense(vector: np.ndarray, seed: bytes) -> np.ndarray:
    """The rotated vector, each block by one product with the whole dense matrix."""
    block = block_of(len(vector))
    size = -(-len(vector) // block) * block
    whole = np.zeros(size)
    whole[: len(vector)] = vector
    matrix = np.array([[sign(i, j) for j in range(block)] for i in range(block)]) / math.sqrt(block)
    return (matrix @ (whole * random_signs(seed, size)).reshape(block, -1)).ravel()


def normal(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


@given(vectors, seeds)
def test_is_random_signs_times_the_dense_hadamard_matrix(vector: np.ndarray, seed: bytes) -> None:
    np.testing.assert_allclose(rotate(vector, seed), dense(vector, seed), rtol=0, atol=1e-9)


def test_three_numbers_by_hand() -> None:
    first, second, third, _ = random_signs(SEED, 4)
    a, b, c = 1.0 * first, 2.0 * second, 4.0 * third
    expected = [(a + b + c) / 2, (a - b + c) / 2, (a + b - c) / 2, (a - b - c) / 2]
    assert rotate(np.array([1.0, 2.0, 4.0]), SEED).tolist() == expected


@counts
def test_keeps_the_norm(count: int) -> None:
    vector = normal(count)
    assert np.linalg.norm(rotate(vector, SEED)) == pytest.approx(np.linalg.norm(vector), rel=1e-13)


@given(vectors, seeds)
def test_keeps_the_norm_of_any_vector(vector: np.ndarray, seed: bytes) -> None:
    found = np.linalg.norm(rotate(vector, seed))
    assert found == pytest.approx(np.linalg.norm(vector), rel=1e-12, abs=1e-150)


@counts
def test_is_linear(count: int) -> None:
    one, other = normal(count, 1), normal(count, 2)
    together = rotate(3.0 * one - 0.5 * other, SEED)
    np.testing.assert_allclose(together, 3.0 * rotate(one, SEED) - 0.5 * rotate(other, SEED), rtol=0, atol=1e-12)


@counts
def test_a_sum_of_rotated_vectors_is_turned_back_to_their_sum(count: int) -> None:
    several = [normal(count, seed) for seed in range(5)]
    total = sum(rotate(vector, SEED) for vector in several)
    found = unrotate(np.asarray(total), SEED, count)
    assert found.shape == (count,)
    np.testing.assert_allclose(found, sum(several), rtol=0, atol=1e-12)


@given(vectors, seeds)
def test_is_turned_back_to_what_it_was(vector: np.ndarray, seed: bytes) -> None:
    np.testing.assert_allclose(unrotate(rotate(vector, seed), seed, len(vector)), vector, rtol=0, atol=1e-11)


def test_a_layer_of_large_numbers_is_spread_over_all_blocks() -> None:
    """4,096 ones beside 61,440 zeros: 256 in each of 16 blocks, so 7 deviations are 1.75 (false alarm: 2e-7)."""
    vector = np.zeros(16 * BLOCK)
    vector[:BLOCK] = 1.0
    rotated = rotate(vector, SEED)
    assert np.abs(rotated).max() < 1.75
    assert np.linalg.norm(rotated.reshape(BLOCK, 16), axis=0) == pytest.approx(np.full(16, 16.0))


@given(st.sampled_from(COUNTS), st.data(), seeds)
def test_one_coordinate_is_spread_evenly_over_its_block(count: int, data: st.DataObject, seed: bytes) -> None:
    """It stays out of other blocks."""
    place = data.draw(st.integers(0, count - 1))
    vector = np.zeros(count)
    vector[place] = 1.0
    block = block_of(count)
    blocks = rotate(vector, seed).reshape(block, -1).T
    mine = place % len(blocks)
    np.testing.assert_allclose(np.abs(blocks[mine]), 1 / math.sqrt(block), rtol=1e-12)
    assert not np.delete(blocks, mine, axis=0).any()


@pytest.mark.parametrize("place", [0, 1, 63, 64, 65, 2047, 4095])
def test_a_coordinate_becomes_its_row_of_the_hadamard_matrix(place: int) -> None:
    """The vector fills a whole block."""
    vector = np.zeros(BLOCK)
    vector[place] = 64.0
    own = random_signs(SEED, BLOCK)[place]
    expected = [own * sign(place, j) for j in range(BLOCK)]
    assert rotate(vector, SEED).tolist() == expected


@pytest.mark.parametrize("vector", [np.ones(BLOCK), np.arange(BLOCK) % 2 * 2.0 - 1, np.eye(1, BLOCK)[0] * 64])
def test_the_signs_spread_what_the_matrix_alone_would_gather(vector: np.ndarray) -> None:
    """No coordinate of the rotated vector passes 6 deviations: false alarm 8e-6 for random signs."""
    assert np.abs(rotate(vector, SEED)).max() < 6


def test_the_seed_decides_the_signs() -> None:
    vector = normal(BLOCK)
    other = bytes([SEED[0] ^ 1]) + SEED[1:]
    assert np.array_equal(rotate(vector, SEED), rotate(vector, SEED))
    assert abs(np.corrcoef(rotate(vector, SEED), rotate(vector, other))[0, 1]) < 6 / math.sqrt(BLOCK)
    assert abs(np.corrcoef(unrotate(rotate(vector, SEED), other, BLOCK), vector)[0, 1]) < 6 / math.sqrt(BLOCK)


def test_every_block_has_signs_of_its_own() -> None:
    first, second = rotate(np.tile(normal(BLOCK), 2), SEED).reshape(2, BLOCK)
    assert abs(np.corrcoef(first, second)[0, 1]) < 6 / math.sqrt(BLOCK)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, 2), (2, 2), (3, 4), (5, 8), (64, 64), (65, 128), (2049, 4096), (4096, 4096), (4097, 8192), (8193, 12288)],
)
def test_padded_sizes_by_hand(count: int, expected: int) -> None:
    assert padded(count) == expected


@given(st.integers(1, 10**9))
def test_padding_gives_the_fewest_whole_blocks(count: int) -> None:
    """Less than one block longer; padded sizes stay as they are."""
    size, block = padded(count), block_of(count)
    assert size >= count
    assert size % block == 0
    assert size - count < block
    assert padded(size) == size
    assert size <= padded(count + 1)


@counts
def test_a_rotated_vector_has_the_padded_size(count: int) -> None:
    rotated = rotate(normal(count), SEED)
    assert rotated.shape == (padded(count),)
    assert rotated.dtype == np.float64


def test_single_precision_is_rotated_in_double_precision() -> None:
    """What is given stays as it is."""
    vector = normal(100).astype(np.float32)
    before = vector.copy()
    assert np.array_equal(rotate(vector, SEED), rotate(vector.astype(np.float64), SEED))
    assert np.array_equal(vector, before)
    rotated = rotate(vector, SEED)
    kept = rotated.copy()
    unrotate(rotated, SEED, 100)
    assert np.array_equal(rotated, kept)
