"""The ring of sums and masks: integers in lanes of 64-bit words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTHS = (12, 16, 21, 32, 64)
"""The lane widths in bits; a word holds 5, 4, 3, 2 or 1 lanes."""

LARGEST_SUM = {bits: (1 << (bits - 1)) - 1 for bits in WIDTHS}
"""The largest coordinate of a sum, by the width of the lane."""

LARGEST = 1 << 46
"""The largest coordinate of one device, so that the sum and the noise fit into 64 bits."""

CHUNK = 1 << 15
"""Words that are processed at once, so that they stay in the cache."""

Words = NDArray[np.uint64]


@dataclass(frozen=True)
class Ring:
    """Vectors of signed integers of `bits` bits, packed into words that are added modulo 2^64.

    Lane l of word w holds coordinate l W + w of a vector that fills W words: a word is the sum over l of
    x_l 2^(bits l).

    Guarantee: the sum of encoded vectors decodes to the exact sum of the vectors, if every coordinate of this sum is
    strictly between -2^(bits-1) and 2^(bits-1). Coordinates within `bound` ensure it.
    """

    bits: int

    @property
    def lanes(self) -> int:
        """The number of coordinates in a word."""
        return 64 // self.bits

    def words(self, count: int) -> int:
        """The number of words for `count` coordinates."""
        return -(-count // self.lanes)

    def bound(self, devices: int) -> int:
        """The largest coordinate of a vector such that a sum of `devices` vectors cannot overflow."""
        return min(LARGEST_SUM[self.bits] // devices, LARGEST)

    def encode(self, vector: NDArray[np.int64]) -> Words:
        """Return the words, uint64 [words], of integers [count].

        >>> [hex(word) for word in Ring(16).encode(np.array([1, -1, 2])).tolist()]
        ['0x1ffff0001']
        """
        lanes, size = vector.view(np.uint64), self.words(len(vector))
        words = lanes[:size].copy()
        shifted = np.empty(min(CHUNK, size), dtype=np.uint64)
        for start in range(0, size, CHUNK):
            part = words[start : start + CHUNK]
            for lane in range(1, self.lanes):
                source = lanes[lane * size + start : min((lane + 1) * size, lane * size + start + CHUNK)]
                moved = np.left_shift(source, np.uint64(self.bits * lane), out=shifted[: len(source)])
                part[: len(source)] += moved
        return words

    def decode(self, words: Words, count: int) -> NDArray[np.int64]:
        """Return the integers, int64 [count], in the words; every coordinate of their sum must be in range.

        >>> ring = Ring(21)
        >>> ring.decode(ring.encode(np.array([5, -7, 9, -1])) * np.uint64(3), 4).tolist()
        [15, -21, 27, -3]
        """
        size, up = len(words), np.int64(64 - self.bits)
        vector = np.empty(size * self.lanes, dtype=np.int64)
        for start in range(0, size, CHUNK):
            rest = words[start : start + CHUNK].view(np.int64).copy()
            for lane in range(self.lanes):
                low = vector[lane * size + start : lane * size + start + len(rest)]
                np.right_shift(np.left_shift(rest, up, out=low), up, out=low)
                rest -= low
                np.right_shift(rest, np.int64(self.bits % 64), out=rest)
        return vector[:count]
