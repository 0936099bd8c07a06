"""The numbers of a planned cohort: who may collude, who may drop out, and how many shares open a secret.

The server chooses which devices to seat. So the numbers of colluders and of devices in a sum are those of the planned
cohort. Up to `COMPLETE` devices, all devices share keys with one another. Above, a device has only some neighbours:
enough to keep the round private and likely to finish (SecAgg+).

Reference: Bell et al., Secure Single-Server Aggregation with (Poly)Logarithmic Overhead, CCS 2020.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

COMPLETE = 1024
"""The most devices that are all neighbours of one another."""

MOST_DEVICES = 100_000
"""The largest cohort: a device's memory and the time to find its neighbours grow with it."""

MOST_NEIGHBOURS = 1024
"""The most neighbours in a sparse graph: it bounds the search, and a plan that needs more is refused."""

PRIVATE_BITS, FINISH_BITS = 40, 20
"""A sparse graph reveals a device's secrets with probability 2^-40 at most, and loses a round with 2^-20 at most."""


def most_colluders(devices: int, fraction: float) -> int:
    """Return the largest number of colluders that is below this fraction of the devices.

    >>> [most_colluders(n, 1 / 3) for n in (2, 3, 4, 6, 7, 100)]
    [0, 0, 1, 1, 2, 33]
    """
    return thresholds(devices, fraction, 0.0).colluders


def most_dropouts(devices: int, fraction: float) -> int:
    """Return how many devices may drop out, if at most this fraction may.

    >>> [most_dropouts(n, 0.3) for n in (2, 3, 4, 10)]
    [0, 0, 1, 3]
    """
    return devices - thresholds(devices, 0.0, fraction).present


def least_in_sum(devices: int, colluders: int) -> int:
    """Return T, the fewest devices in any sum that a cohort of n devices with c colluders opens: 2 T > n + c.

    Each of two sums of one round contains at least T - c honest devices. Together these exceed the n - c honest
    devices, so one device is in both sums. T is also the threshold of shares in a complete graph, so two lists of
    survivors cannot open both secrets of a device.

    >>> [least_in_sum(*planned) for planned in ((2, 0), (3, 0), (10, 3), (100, 33))]
    [2, 2, 7, 67]
    """
    return (devices + colluders) // 2 + 1


class Thresholds(NamedTuple):
    """The numbers of a planned cohort: colluders, devices `present` after the most dropouts, and `least_in_sum`."""

    colluders: int
    present: int
    least_in_sum: int


def thresholds(devices: int, colluding: float, dropping: float) -> Thresholds:
    """Return the thresholds of a cohort planned for `devices`, given the fractions that may collude and drop out.

    Fewer devices than the fraction `colluding` collude, and at most the fraction `dropping` drops out.
    """
    colluders = max(math.ceil(colluding * devices - 1e-9) - 1, 0)
    return Thresholds(colluders, devices - math.floor(dropping * devices), least_in_sum(devices, colluders))


@lru_cache(maxsize=64)
def sparse_degree(devices: int, colluders: int, dropping: float) -> tuple[int, int]:
    """Return the smallest degree and threshold with which a sparse graph of these devices is safe.

    Except with probability 2^-40, no device has a threshold of colluding neighbours, and colluders and dropouts do
    not cut the ring into parts. Except with probability 2^-20, each device keeps a threshold of neighbours if the
    fraction `dropping` drops out at random.

    Raises:
        ValueError: no sparse graph is safe enough.
    """
    gone = most_dropouts(devices, dropping)
    for degree in range(2, min(devices - 1, MOST_NEIGHBOURS + 1), 2):
        if not _holds_together(devices, colluders + gone, degree):
            continue
        threshold = max(2, _least_threshold(devices, colluders, degree))
        if threshold <= degree and devices * _below(threshold, devices, devices - gone, degree) <= 2.0**-FINISH_BITS:
            return degree, threshold
    raise ValueError("no graph is safe against so many colluders and dropouts")


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if 0 <= k <= n else -math.inf


def _chance(n: int, marked: int, drawn: int, hits: int) -> float:
    """Return the hypergeometric probability of `hits` marked devices among `drawn` of n."""
    return math.exp(_log_choose(marked, hits) + _log_choose(n - marked, drawn - hits) - _log_choose(n, drawn))


def _least_threshold(n: int, bad: int, degree: int) -> int:
    """Return the smallest t such that, except with probability 2^-41, no device has t colluding neighbours."""
    tail, limit = 0.0, 2.0 ** -(PRIVATE_BITS + 1) / n
    for hits in range(degree, -1, -1):
        tail += _chance(n, bad, degree, hits)
        if tail > limit:
            return hits + 1
    return 1


def _below(threshold: int, n: int, alive: int, degree: int) -> float:
    """Return the probability that fewer than `threshold` of a device's neighbours are alive."""
    return sum(_chance(n, alive, degree, hits) for hits in range(threshold))


def _holds_together(n: int, lost: int, degree: int) -> bool:
    """Whether, except with probability 2^-41, lost devices do not cut the ring.

    A cut needs `degree` lost devices in two gaps; the bound is a union bound.
    """
    cuts = math.log(n * (n - degree - 1) / 2) + _log_choose(n - degree, lost - degree) - _log_choose(n, lost)
    return cuts <= -(PRIVATE_BITS + 1) * math.log(2)
