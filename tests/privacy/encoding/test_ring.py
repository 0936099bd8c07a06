"""Words of the ring and their lanes."""

from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bract.privacy import Ring
from bract.privacy.encoding.ring import CHUNK, LARGEST, WIDTHS

widths = st.sampled_from(WIDTHS)
counts = st.integers(0, 80)
MODULUS = 1 << 64


def halves(bits: int) -> int:
    """The largest coordinate that a sum may have."""
    return (1 << (bits - 1)) - 1


def words_by_hand(vector: list[int], bits: int) -> list[int]:
    """The words of a vector in whole numbers of any size: lane l of word w holds coordinate l W + w."""
    lanes = 64 // bits
    size = math.ceil(len(vector) / lanes)
    padded = vector + [0] * (size * lanes - len(vector))
    return [sum(padded[lane * size + w] << (bits * lane) for lane in range(lanes)) % MODULUS for w in range(size)]


def added(ring: Ring, vectors: list[np.ndarray]) -> np.ndarray:
    """The words of the sum, added as the server adds them."""
    total = np.zeros(ring.words(len(vectors[0])), dtype=np.uint64)
    for vector in vectors:
        total += ring.encode(vector)
    return total


@pytest.mark.parametrize(("bits", "lanes"), [(12, 5), (16, 4), (21, 3), (32, 2), (64, 1)])
def test_a_word_holds_as_many_lanes_as_fit(bits: int, lanes: int) -> None:
    assert Ring(bits).lanes == lanes
    assert [Ring(bits).words(count) for count in (0, 1, lanes, lanes + 1, 10 * lanes)] == [0, 1, 1, 2, 10]


def test_the_widths_known_here_are_all_widths() -> None:
    assert WIDTHS == (12, 16, 21, 32, 64)


@pytest.mark.parametrize(
    ("bits", "vector", "words"),
    [
        (12, [1, 2, 3, 4, 5], [1 + (2 << 12) + (3 << 24) + (4 << 36) + (5 << 48)]),
        (12, [-1], [MODULUS - 1]),
        (16, [1, -1, 2], [1 - (1 << 16) + (2 << 32)]),
        (16, [7, 0, 0, -1], [0xFFFF000000000007]),
        (16, [1, 2, 3, 4, 5], [1 + (3 << 16) + (5 << 32), 2 + (4 << 16)]),
        (21, [0, 0, 2**20 - 1], [(2**20 - 1) << 42]),
        (21, [-1, 1], [(1 << 21) - 1]),
        (32, [-5, 9], [(9 << 32) - 5]),
        (32, [-(2**31) + 1, 2**31 - 1], [((2**31 - 1) << 32) - 2**31 + 1]),
        (64, [3, -3, 2**62], [3, MODULUS - 3, 2**62]),
    ],
)
def test_words_by_known_answers(bits: int, vector: list[int], words: list[int]) -> None:
    ring = Ring(bits)
    found = ring.encode(np.array(vector, dtype=np.int64))
    assert found.dtype == np.uint64
    assert found.tolist() == words == words_by_hand(vector, bits)
    assert ring.decode(found, len(vector)).tolist() == vector


@given(st.data(), widths, counts)
def test_words_are_those_of_whole_numbers_of_any_size(data: st.DataObject, bits: int, count: int) -> None:
    numbers = st.integers(-halves(bits), halves(bits))
    vector = data.draw(st.lists(numbers, min_size=count, max_size=count))
    assert Ring(bits).encode(np.array(vector, dtype=np.int64)).tolist() == words_by_hand(vector, bits)


@given(st.data(), widths, st.integers(1, 9), counts)
def test_the_sum_of_vectors_within_the_bound_decodes_exactly(
    data: st.DataObject, bits: int, devices: int, count: int
) -> None:
    ring = Ring(bits)
    bound = ring.bound(devices)
    near = st.sampled_from([-bound, -bound + 1, -1, 0, 1, bound - 1, bound]) | st.integers(-bound, bound)
    vectors = [data.draw(arrays.arrays(np.int64, count, elements=near)) for _ in range(devices)]
    expected = [sum(int(vector[i]) for vector in vectors) for i in range(count)]
    assert ring.decode(added(ring, vectors), count).tolist() == expected


@given(widths, st.integers(1, 2**20), counts, st.integers(0, 2**32 - 1))
@example(12, 2047, 7, 0)
@example(64, 2**17, 7, 0)
def test_a_sum_of_the_most_devices_at_the_bound_is_exact(bits: int, devices: int, count: int, seed: int) -> None:
    """The sum of as many devices as there may be decodes exactly when all are at the bound."""
    ring = Ring(bits)
    bound = ring.bound(devices)
    vector = bound * np.random.default_rng(seed).choice([-1, 0, 1], size=count)
    total = ring.encode(vector) * np.uint64(devices)
    assert ring.decode(total, count).tolist() == [devices * int(x) for x in vector]


@given(widths, st.integers(1, 2**20), st.integers(1, 80), st.integers(0, 2**32 - 1))
def test_words_decode_exactly_whatever_came_and_went(bits: int, devices: int, count: int, seed: int) -> None:
    """As masks are: uniform words, of which only the sum has to be known."""
    ring, rng = Ring(bits), np.random.default_rng(seed)
    vector = rng.integers(-ring.bound(devices), ring.bound(devices), size=count, endpoint=True)
    masks = rng.integers(0, MODULUS, size=(3, ring.words(count)), dtype=np.uint64)
    words = ring.encode(vector)
    for mask in masks:
        words += mask
    for mask in masks[::-1]:
        words -= mask
    assert ring.decode(words, count).tolist() == vector.tolist()


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_top_of_the_range_is_reached_and_one_more_falls_off(bits: int, sign: int) -> None:
    ring, top = Ring(bits), sign * halves(bits)
    full = np.full(ring.lanes, top, dtype=np.int64)
    assert ring.decode(ring.encode(full), ring.lanes).tolist() == full.tolist()
    with np.errstate(over="ignore"):
        over = ring.decode(ring.encode(full) + ring.encode(np.full(ring.lanes, 2 * sign)), ring.lanes)
    assert over[0] != top + 2 * sign


@given(widths, st.integers(1, 10**7))
def test_the_bound_is_the_largest_with_which_no_sum_overflows(bits: int, devices: int) -> None:
    bound = Ring(bits).bound(devices)
    assert devices * bound <= halves(bits)
    assert bound <= LARGEST
    assert devices * (bound + 1) > halves(bits) or bound == LARGEST


@pytest.mark.parametrize(
    ("bits", "devices", "bound"),
    [(12, 1, 2047), (12, 2, 1023), (12, 2047, 1), (12, 2048, 0), (16, 100, 327), (21, 3, 349525), (64, 3, 2**46)],
)
def test_the_bound_by_hand(bits: int, devices: int, bound: int) -> None:
    assert Ring(bits).bound(devices) == bound


def test_the_largest_coordinate_leaves_room_for_noise() -> None:
    """In a sum at the largest coordinate of 65535 devices."""
    assert Ring(64).bound(2**16 - 1) == LARGEST
    assert LARGEST * (2**16 - 1) < 2**62


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("extra", [-1, 0, 1, CHUNK])
def test_vectors_that_span_chunks_decode_exactly(bits: int, extra: int) -> None:
    ring, rng = Ring(bits), np.random.default_rng(bits)
    count = ring.lanes * CHUNK + extra
    vectors = [rng.integers(-ring.bound(3), ring.bound(3), size=count, endpoint=True) for _ in range(3)]
    total = added(ring, vectors)
    assert len(total) == ring.words(count)
    assert np.array_equal(ring.decode(total, count), np.sum(vectors, axis=0))
    assert total.tolist()[:3] == words_by_hand(np.sum(vectors, axis=0).tolist(), bits)[:3]


@pytest.mark.parametrize("bits", WIDTHS)
def test_neither_way_writes_to_what_it_is_given(bits: int) -> None:
    ring = Ring(bits)
    vector = np.arange(-5, 6, dtype=np.int64)
    words = ring.encode(vector)
    vector.flags.writeable = words.flags.writeable = False
    assert ring.decode(words, 11).tolist() == vector.tolist()
    assert not np.shares_memory(ring.encode(vector), vector)
    assert not np.shares_memory(ring.decode(words, 11), words)
    assert ring.encode(vector).tolist() == words.tolist()


def test_a_ring_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Ring(16).bits = 12  # type: ignore[misc]
