"""The graph of devices that share keys with one another, and the threshold of shares that open a secret.

Up to `COMPLETE` devices, all devices are neighbours, so the graph needs no trust. Above, a device's neighbours are
the nearest ones on a ring in random order (SecAgg+). `privacy/plan/thresholds.py` derives the numbers of both.

Reference: Bell et al., Secure Single-Server Aggregation with (Poly)Logarithmic Overhead, CCS 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..noise.keystream import Keystream
from ..plan.thresholds import COMPLETE, least_in_sum, sparse_degree
from ..sampling import permutation


@dataclass(frozen=True)
class Graph:
    """A graph of `devices` with `degree` neighbours each; `threshold` shares, including its own, open a secret."""

    devices: int
    degree: int
    threshold: int

    @property
    def complete(self) -> bool:
        """Whether all devices are neighbours."""
        return self.degree == self.devices - 1

    def neighbours(self, position: int, seed: bytes) -> tuple[int, ...]:
        """Return the sorted positions of a device's neighbours; `seed` (32 public bytes) orders the ring."""
        return _neighbours(self, position, b"" if self.complete else seed)


@lru_cache(maxsize=1 << 12)
def _neighbours(graph: Graph, position: int, seed: bytes) -> tuple[int, ...]:
    if graph.complete:
        return tuple(p for p in range(graph.devices) if p != position)
    order, place = _ring(graph.devices, seed)
    steps = range(1, graph.degree // 2 + 1)
    around = (place[position] + s for step in steps for s in (-step, step))
    return tuple(sorted(order[p % graph.devices] for p in around))


@lru_cache(maxsize=1)
def _ring(devices: int, seed: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the device at each place of the ring, and the place of each device."""
    order = permutation(Keystream(seed), devices)
    return tuple(order.tolist()), tuple(order.argsort().tolist())


def choose_graph(devices: int, colluders: int, dropping: float, seated: int | None = None) -> Graph:
    """Return the graph of the `seated` devices (by default all) of a cohort planned for `devices`.

    At most `colluders` of the planned devices collude with the server, and all of these can be seated. In a complete
    graph, the threshold is `least_in_sum` of the planned cohort, even if fewer are seated. With more than `COMPLETE`
    seated devices, the graph is sparse.

    Raises:
        ValueError: too few or too many devices are seated, or no sparse graph is safe enough.
    """
    seats, least = devices if seated is None else seated, least_in_sum(devices, colluders)
    if not 2 <= least <= seats <= devices:
        raise ValueError("too few devices are seated, or more than planned")
    return Graph(seats, seats - 1, least) if seats <= COMPLETE else sparse_graph(seats, colluders, dropping)


def sparse_graph(devices: int, colluders: int, dropping: float) -> Graph:
    """Return the safe sparse graph with the smallest degree and threshold: see `sparse_degree`.

    Raises:
        ValueError: no sparse graph is safe enough.
    """
    return Graph(devices, *sparse_degree(devices, colluders, dropping))
