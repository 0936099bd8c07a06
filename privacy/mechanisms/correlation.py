"""Noise that is correlated over rounds: each round cancels part of the noise of earlier rounds.

`factorisation.py` has the mathematics and the proof.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RoundsOfClients = Iterable[tuple[int, Collection[str]]]
"""Pairs of a round and the names of its clients, for all rounds since the noise was last restarted."""


def weights_norm(weights: NDArray[np.int64]) -> float:
    """Return the L2 norm of integer weights."""
    return math.sqrt(sum(weight**2 for weight in weights.tolist()))


@dataclass(frozen=True, repr=False)
class Correlation:
    """The state of correlated noise: the next round's noise is computed from this state and from fresh noise.

    `weights`, int64 [bands], is C in integers: public, and the same in all rounds. `past` holds the noise of up to
    `bands - 1` earlier rounds, latest first: int64 [coordinates], in steps of the grid. It stays secret for ever,
    because with it one can subtract the noise from the releases. An empty `past` restarts the noise. A restart is
    sound at any time: C then has one block for the rounds before it and one for the rounds after it, and columns of
    different blocks are orthogonal, however close their rounds are.
    """

    weights: NDArray[np.int64]
    past: tuple[NDArray[np.int64], ...] = ()

    def __repr__(self) -> str:
        return f"Correlation(bands={len(self.weights)}, past={len(self.past)} vectors)"

    def follow(self, fresh: NDArray[np.int64]) -> tuple[NDArray[np.int64], Correlation]:
        """Return a round's noise, int64 [count], secret, and the state for the next round's noise.

        `fresh` is Z, rounded Gaussian noise. Its standard deviation is the norm of the weights times that of the
        independent noise that this noise replaces.

        Guarantee: the guarantee in `factorisation.py` holds exactly on integers. For integer sums x_t: r_t = x_t +
        Y_t is released, where Y_t = round((Z_t - w_1 Y_(t-1) - ...) / w_0). As x_t is an integer, r_t = round((S_t -
        w_1 r_(t-1) - ...) / w_0), where S_t = w_0 x_t + w_1 x_(t-1) + ... + Z_t. So r_t is a function of S_t and
        earlier releases. Z is a rounded Gaussian and the products w x are integers, so S_t is a rounding of the
        Gaussian mechanism's output.

        Raises:
            ValueError: `past` is of another size.
            OverflowError: the noise outgrows 64 bits. The weights of `coefficients` prevent this.
        """
        if any(len(vector) != len(fresh) for vector in self.past):
            raise ValueError(f"expected {len(fresh)} coordinates of past noise")
        bits = int(self.weights[0]).bit_length() - 1
        noise = fresh + ((1 << bits) >> 1)
        for weight, vector in zip(self.weights[1:], self.past, strict=False):
            noise -= weight * vector
        noise >>= bits
        if len(noise) and max(-int(noise.min()), int(noise.max())) > (1 << 61) // int(self.weights.sum()):
            raise OverflowError("correlated noise outgrows 64 bits")
        return noise, Correlation(self.weights, (noise, *self.past)[: len(self.weights) - 1])


def too_recent(past: RoundsOfClients, round: int, bands: int) -> frozenset[str]:
    """Return the clients that sit out a round: the clients of the `bands - 1` rounds before it.

    >>> sorted(too_recent([(1, ["g", "h"]), (2, ["i"]), (3, ["e"])], 4, bands=3))
    ['e', 'i']
    """
    return frozenset(client for number, clients in past if round - number < bands for client in clients)


def check_separation(past: RoundsOfClients, round: int, clients: Collection[str], bands: int) -> None:
    """Refuse a round with a client that took part in one of the `bands - 1` rounds before it.

    Raises:
        ValueError: the round has such a client.
    """
    if early := too_recent(past, round, bands).intersection(clients):
        raise ValueError(f"{len(early)} clients are back in round {round} before {bands} rounds have passed")
