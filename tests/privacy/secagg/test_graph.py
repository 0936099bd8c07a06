"""The graph of neighbours: degrees, thresholds and whom they withstand."""

from __future__ import annotations

from fractions import Fraction
from math import comb, floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy.plan import thresholds
from bract.privacy.plan.thresholds import COMPLETE, least_in_sum, most_colluders, most_dropouts
from bract.privacy.secagg.graph import Graph, choose_graph, sparse_graph

SHARES = ((0.05, 0.1), (0.1, 0.3), (0.2, 0.2), (1 / 3, 0.3))
"""Colluders and dropouts of the four columns of `TABLE`."""

TABLE = {
    20: ((4, 2), (10, 3), (10, 5), (14, 7)),
    50: ((8, 3), (22, 6), (22, 11), (32, 17)),
    100: ((16, 6), (34, 11), (40, 21), (64, 34)),
    200: ((24, 11), (54, 21), (62, 34), (116, 63)),
    500: ((32, 17), (76, 31), (88, 48), (194, 106)),
    1000: ((36, 19), (88, 36), (98, 54), (252, 138)),
    10_000: ((42, 22), (108, 44), (122, 67), (360, 196)),
    100_000: ((46, 23), (122, 49), (134, 73), (406, 220)),
}
"""Degree and threshold by number of devices, computed apart from this code."""


@pytest.mark.parametrize("devices", TABLE)
def test_degrees_and_thresholds_are_those_of_the_table(devices: int) -> None:
    chosen = [sparse_graph(devices, floor(bad * devices), gone) for bad, gone in SHARES]
    assert [(one.degree, one.threshold) for one in chosen] == list(TABLE[devices])


def tail(n: int, marked: int, drawn: int, hits: range) -> Fraction:
    return Fraction(sum(comb(marked, h) * comb(n - marked, drawn - h) for h in hits), comb(n, drawn))


def is_safe(n: int, bad: int, gone: int, degree: int, threshold: int) -> bool:
    """Whether a sparse graph keeps its promises, in exact arithmetic."""
    private = n * tail(n, bad, degree, range(threshold, degree + 1)) <= Fraction(1, 2**41)
    cuts = Fraction(comb(n - degree, bad + gone - degree) if bad + gone >= degree else 0, comb(n, bad + gone))
    whole = Fraction(n * (n - degree - 1), 2) * cuts <= Fraction(1, 2**41)
    return private and whole and n * tail(n, n - gone, degree, range(threshold)) <= Fraction(1, 2**20)


@pytest.mark.parametrize("devices", [257, 300, 700])
@pytest.mark.parametrize("shares", SHARES)
def test_a_sparse_graph_is_the_least_that_is_safe(devices: int, shares: tuple[float, float]) -> None:
    """Exact arithmetic says so."""
    bad, gone = (floor(share * devices) for share in shares)
    chosen = sparse_graph(devices, bad, shares[1])
    assert is_safe(devices, bad, gone, chosen.degree, chosen.threshold)
    assert not is_safe(devices, bad, gone, chosen.degree, chosen.threshold - 1)
    assert not any(is_safe(devices, bad, gone, chosen.degree - 2, t) for t in range(1, chosen.degree - 1))


@pytest.mark.parametrize("share", [0.0, 0.1, 1 / 3, 0.49])
def test_no_two_lists_open_in_a_complete_graph(share: float) -> None:
    """They are lists of survivors."""
    for devices in range(2, COMPLETE + 1):
        bad = most_colluders(devices, share)
        chosen = choose_graph(devices, bad, 0.3)
        assert chosen.complete
        assert chosen.degree == devices - 1
        assert 2 * chosen.threshold > devices + bad >= 2 * (chosen.threshold - 1)
        assert bad < chosen.threshold <= devices


def test_the_graph_is_complete_up_to_1024_devices() -> None:
    assert choose_graph(1024, 341, 0.3) == Graph(1024, 1023, 683)
    assert choose_graph(1025, 341, 0.3) == sparse_graph(1025, 341, 0.3)
    assert not sparse_graph(1025, 341, 0.3).complete


def test_colluders_are_always_fewer_than_their_share() -> None:
    assert [most_colluders(n, 1 / 3) for n in (2, 3, 4, 20, 99, 100)] == [0, 0, 1, 6, 32, 33]
    assert [most_colluders(n, 0.1) for n in (2, 10, 11, 20, 30)] == [0, 0, 1, 1, 2]
    assert [most_colluders(n, 0.0) for n in (2, 100)] == [0, 0]


@pytest.mark.parametrize(("devices", "least"), [(2, 2), (3, 2), (5, 4), (10, 7), (20, 14), (100, 67), (256, 171)])
def test_a_sum_holds_more_than_half_of_all_and_colluders(devices: int, least: int) -> None:
    """More than half of devices and colluders together are in any sum."""
    colluders = most_colluders(devices, 1 / 3)
    assert least_in_sum(devices, colluders) == least == choose_graph(devices, colluders, 0.3).threshold
    assert 2 * (least - colluders) > devices - colluders  # two sums of strangers need more honest ones than there are


def test_fewer_seats_keep_the_threshold_or_have_no_graph() -> None:
    """However few are seated."""
    assert [choose_graph(10, 3, 0.3, seated) for seated in (7, 8, 10)] == [
        Graph(7, 6, 7),
        Graph(8, 7, 7),
        Graph(10, 9, 7),
    ]
    for seated in (-1, 0, 1, 2, 4, 6, 11):
        with pytest.raises(ValueError, match="too few"):
            choose_graph(10, 3, 0.3, seated)


def test_a_few_of_many_have_the_threshold_of_all() -> None:
    """In their complete graph."""
    many = COMPLETE + 50
    assert choose_graph(many, 10, 0.3, COMPLETE) == Graph(COMPLETE, COMPLETE - 1, least_in_sum(many, 10))
    assert not choose_graph(many, 10, 0.3).complete


def test_the_default_shares_leave_enough_for_a_sum() -> None:
    """The cohort may have any size."""
    for devices in range(2, 3000):
        assert least_in_sum(devices, most_colluders(devices, 1 / 3)) <= devices - most_dropouts(devices, 0.3)


@pytest.mark.parametrize("devices", [-1, 0, 1])
def test_fewer_than_two_devices_have_no_graph(devices: int) -> None:
    with pytest.raises(ValueError, match="too few"):
        choose_graph(devices, 0, 0.1)


def test_where_no_sparse_graph_is_safe_there_is_none() -> None:
    with pytest.raises(ValueError, match="no graph is safe"):
        sparse_graph(300, 149, 0.499)


def test_a_graph_of_too_many_neighbours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than are searched for."""
    monkeypatch.setattr(thresholds, "MOST_NEIGHBOURS", 32)
    thresholds.sparse_degree.cache_clear()
    assert sparse_graph(500, 25, 0.1).degree == 32
    thresholds.sparse_degree.cache_clear()
    monkeypatch.setattr(thresholds, "MOST_NEIGHBOURS", 31)
    with pytest.raises(ValueError, match="no graph is safe"):
        sparse_graph(500, 25, 0.1)
    thresholds.sparse_degree.cache_clear()


def test_in_a_complete_graph_everyone_is_a_neighbour() -> None:
    chosen = choose_graph(4, 1, 0.3)
    assert [chosen.neighbours(p, bytes(32)) for p in range(4)] == [(1, 2, 3), (0, 2, 3), (0, 1, 3), (0, 1, 2)]


@given(st.binary(min_size=32, max_size=32), st.integers(257, 400), st.integers(1, 20))
def test_sparse_neighbours_are_mutual_and_as_many_as_the_degree(seed: bytes, devices: int, half: int) -> None:
    sparse = Graph(devices, 2 * half, half + 1)
    around = [sparse.neighbours(position, seed) for position in range(devices)]
    for position, near in enumerate(around):
        assert len(set(near)) == 2 * half
        assert list(near) == sorted(near)
        assert position not in near
        assert all(position in around[other] for other in near)


def test_a_sparse_graph_is_one_piece_in_its_seeds_order() -> None:
    """In an order that its seed fixes."""
    sparse, seen, front = Graph(300, 2, 2), {0}, [0]
    while front:
        front = [other for p in front for other in sparse.neighbours(p, b"\x07" * 32) if other not in seen]
        seen.update(front)
    assert seen == set(range(300))
    rings = {tuple(sparse.neighbours(p, bytes([seed]) * 32) for p in range(300)) for seed in range(5)}
    assert len(rings) == 5


def test_neighbours_are_evenly_spread_over_the_devices() -> None:
    """Each of 256 others is a neighbour in a tenth of 5,000 graphs, within 6 deviations. The seeds are fixed: at
    random 1e-6 would fail.
    """
    sparse, rounds = Graph(257, 26, 14), 5000
    counts = [0] * 257
    for seed in range(rounds):
        for other in sparse.neighbours(100, seed.to_bytes(32, "big")):
            counts[other] += 1
    share = 26 / 256
    spread = 6 * (rounds * share * (1 - share)) ** 0.5
    assert counts[100] == 0
    assert all(abs(count - rounds * share) < spread for p, count in enumerate(counts) if p != 100)


def test_where_all_could_collude_there_is_no_graph() -> None:
    with pytest.raises(ValueError, match="too few"):
        choose_graph(4, 4, 0.3)
