"""Noise that is correlated over rounds: each round takes back part of the noise of those before it.

The mathematics, and the proof, are in `factorisation.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..noise.gaussian import gaussian
from ..noise.keystream import Keystream
from .factorisation import weights_norm

Past = Iterable[tuple[int, Collection[str]]]
"""Rounds with the names of the clients that were in them, all those since noise was last started afresh."""


@dataclass(frozen=True, repr=False)
class Correlation:
    """What the next round's noise is made of, beside fresh noise.

    `weights`, int64 [bands], is C in whole numbers, public; they stay the same from the first round to the last.
    `past` holds the noise of the rounds before, latest first, `bands - 1` at most: int64 [coordinates] in steps of
    the grid, secret for good: who has it can take the noise off what was released. No `past` starts afresh, which
    is sound at any time: C then has a block for the rounds before and one for those that follow, whose columns are
    orthogonal to each other, however near.
    """

    weights: NDArray[np.int64]
    past: tuple[NDArray[np.int64], ...] = ()

    def __repr__(self) -> str:
        return f"Correlation(bands={len(self.weights)}, past={len(self.past)} vectors)"

    def draw(self, std: float, count: int, keystream: Keystream) -> tuple[NDArray[np.int64], Correlation]:
        """Return a round's noise, int64 [count], secret, and what the next round's is made of.

        `std` is that of the independent noise in whose place it stands, in steps: noise multiplier times
        sensitivity. Fresh noise Z has the weights' norm times that.

        Guarantee: that of the module, exactly, on whole numbers x. Released is r_t = x_t + Y_t, where Y_t is
        (Z_t - w_1 Y_(t-1) - ...) / w_0 rounded to the nearest whole number; thus r_t, as x_t is whole, is
        (S_t - w_1 r_(t-1) - ...) / w_0 rounded, where S_t = w_0 x_t + w_1 x_(t-1) + ... + Z_t: a function of S_t and
        of earlier releases. Z being a rounded Gaussian and w x whole, S_t is a rounding of the Gaussian mechanism.

        Raises:
            ValueError: the standard deviation of Z is not one that noise is made for, or `past` is of another size.
            OverflowError: the weights let noise grow past 64 bits; those of `coefficients` do not.
        """
        if any(len(vector) != count for vector in self.past):
            raise ValueError(f"expected {count} coordinates of past noise")
        fresh = gaussian(std * weights_norm(self.weights), count, keystream)
        return self.follow(fresh)

    def follow(self, fresh: NDArray[np.int64]) -> tuple[NDArray[np.int64], Correlation]:
        """Return what `draw` does, for given fresh noise."""
        bits = int(self.weights[0]).bit_length() - 1
        noise = fresh + ((1 << bits) >> 1)
        for weight, vector in zip(self.weights[1:], self.past, strict=False):
            noise -= weight * vector
        noise >>= bits
        if len(noise) and max(-int(noise.min()), int(noise.max())) > (1 << 61) // int(self.weights.sum()):
            raise OverflowError("correlated noise outgrows 64 bits")
        return noise, Correlation(self.weights, (noise, *self.past)[: len(self.weights) - 1])


def resting(past: Past, round: int, bands: int) -> frozenset[str]:
    """Return the clients that sit out a round: those of the `bands - 1` rounds before.

    >>> sorted(resting([(1, ["g", "h"]), (2, ["i"]), (3, ["e"])], 4, bands=3))
    ['e', 'i']
    """
    return frozenset(client for number, clients in past if round - number < bands for client in clients)


def check_separation(past: Past, round: int, clients: Collection[str], bands: int) -> None:
    """Refuse a round with a client whose last one is less than `bands` before it.

    Raises:
        ValueError: there is such a client.
    """
    if early := resting(past, round, bands).intersection(clients):
        raise ValueError(f"{len(early)} clients are back in round {round} before {bands} rounds have passed")
