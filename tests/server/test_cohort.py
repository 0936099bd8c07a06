"""Cohorts: who is chosen for a round."""

from __future__ import annotations

import math
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from bract.privacy import Keystream
from bract.server.cohort import choose_cohort
from bract.simulations.seeded import SeededEntropy


def key(seed: int, number: int = 0) -> Keystream:
    return SeededEntropy(seed).keystream("cohort", number)


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int, int, int]:
    """Clients, cohort size, rounds and a seed."""
    clients = draw(st.integers(1, 15))
    return clients, draw(st.integers(1, clients)), draw(st.integers(1, 25)), draw(st.integers(0, 2**20))


@settings(max_examples=200, deadline=None)
@given(schedule=schedules())
def test_while_all_are_there_cohorts_are_full_within_the_bound(
    schedule: tuple[int, int, int, int],
) -> None:
    """Nobody passes the bound."""
    clients, size, rounds, seed = schedule
    limit, taken = math.ceil(rounds * size / clients), Counter[int]()
    for number in range(rounds):
        cohort = choose_cohort(range(10, 10 + clients), taken, size, limit, key(seed, number))
        assert len(cohort) == size
        taken.update(cohort)
        counts = [taken[client] for client in range(10, 10 + clients)]
        assert max(counts) - min(counts) <= 1
        assert max(counts) <= limit


@settings(max_examples=200, deadline=None)
@given(schedule=schedules(), data=st.data())
def test_nobody_passes_the_bound_even_if_only_some_are_available(
    schedule: tuple[int, int, int, int], data: st.DataObject
) -> None:
    clients, size, rounds, seed = schedule
    limit, taken = math.ceil(rounds * size / clients), Counter[int]()
    for number in range(rounds):
        available = data.draw(st.lists(st.integers(1, clients), unique=True))
        cohort = choose_cohort(available, taken, size, limit, key(seed, number))
        assert set(cohort) <= set(available)
        assert len(cohort) <= size
        assert cohort == sorted(set(cohort))
        taken.update(cohort)
        assert max(taken.values(), default=0) <= limit


@given(st.permutations(range(8)), st.integers(0, 100))
def test_those_with_the_fewest_rounds_come_first(counts: list[int], seed: int) -> None:
    taken = Counter(dict(enumerate(counts)))
    assert choose_cohort(range(8), taken, 3, 100, key(seed)) == sorted(counts.index(c) for c in (0, 1, 2))


def test_ties_are_broken_at_random_and_evenly() -> None:
    runs, clients, size = 3000, 7, 3
    chosen = Counter(c for run in range(runs) for c in choose_cohort(range(clients), Counter(), size, 9, key(run)))
    rate = size / clients
    error = math.sqrt(runs * rate * (1 - rate))
    # six standard errors: a false alarm in 2e-9 of seeds a client, and the seeds are fixed
    assert all(abs(chosen[client] - runs * rate) < 6 * error for client in range(clients))


def test_pairs_are_chosen_together_no_more_often_than_by_chance() -> None:
    runs = 3000
    pairs = Counter(tuple(choose_cohort(range(4), Counter(), 2, 9, key(run))) for run in range(runs))
    error = math.sqrt(runs / 6 * (5 / 6))
    assert len(pairs) == 6
    assert all(abs(count - runs / 6) < 6 * error for count in pairs.values())


def test_who_reached_the_bound_is_not_chosen() -> None:
    """Even if nobody else is left."""
    assert choose_cohort([1, 2, 3], Counter({1: 5, 2: 4, 3: 6}), 3, 5, key(0)) == [2]
    assert choose_cohort([1], Counter({1: 5}), 1, 5, key(0)) == []
    assert choose_cohort([], Counter(), 1, 5, key(0)) == []


def test_the_order_of_nodes_does_not_tell_who_is_chosen() -> None:
    """The order in which they are listed."""
    runs = 2000
    first = sum(0 in choose_cohort(range(10), Counter(), 1, 9, key(run)) for run in range(runs))
    last = sum(9 in choose_cohort(range(10), Counter(), 1, 9, key(run)) for run in range(runs))
    error = math.sqrt(runs * 0.1 * 0.9)
    assert abs(first - runs / 10) < 6 * error
    assert abs(last - runs / 10) < 6 * error


def test_the_counts_are_left_as_they_are() -> None:
    taken = Counter({1: 2})
    choose_cohort([1, 2, 3], taken, 2, 5, key(0))
    assert taken == {1: 2}
    assert list(taken) == [1]
