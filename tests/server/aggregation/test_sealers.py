from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bract.privacy.secagg.bitset import to_bits
from bract.server.aggregation.sealers import Sealers

NAMES = [bytes([place]) * 32 for place in range(10)]


class Ten:
    """Ten devices in a cohort: everyone is a neighbour of everyone, and place 9 has shared nothing."""

    cards = tuple(SimpleNamespace(identity=name) for name in NAMES)
    boxes = dict.fromkeys(range(9), b"")

    def neighbours(self, place: int) -> tuple[int, ...]:
        return tuple(p for p in range(10) if p != place)


def named(sealers: Sealers, namers: list[int], senders: list[int]) -> set[int]:
    """Who is left out once these named those."""
    cohort: Any = Ten()
    for namer in namers:
        sealers.take(cohort, namer, to_bits(senders, 10))
    return {place for place, name in enumerate(NAMES) if sealers.left_out(name)}


def test_whom_more_than_the_colluders_named_is_left_out_and_nobody_on_fewer() -> None:
    assert named(Sealers(3), [1, 2, 3], [0]) == set()
    assert named(Sealers(3), [1, 2, 3, 4], [0]) == {0}
    assert named(Sealers(0), [1], [0, 5]) == {0, 5}


def test_one_who_names_another_many_times_counts_once() -> None:
    sealers = Sealers(3)
    assert named(sealers, [1, 2, 3] * 5, [0]) == set()
    assert named(sealers, [1, 2], [0]) == set()


def test_those_who_name_in_different_rounds_add_up() -> None:
    sealers = Sealers(2)
    assert named(sealers, [1], [0]) == set()
    assert named(sealers, [2, 3], [0]) == {0}


@pytest.mark.parametrize(
    "senders", [b"", b"\xff", b"\xff\xff\xff", to_bits([0, 1], 10), to_bits([0, 9], 10), b"\x01\x04"]
)
def test_a_list_that_is_none_of_neighbours_who_sealed_says_nothing(senders: bytes) -> None:
    """Too short, too long, with the namer itself, with one who sealed nothing, beyond the cohort."""
    sealers, cohort = Sealers(0), Ten()
    sealers.take(cohort, 1, senders)  # type: ignore[arg-type]
    assert not any(sealers.left_out(name) for name in NAMES)


def test_one_who_is_caught_is_left_out_at_once() -> None:
    sealers = Sealers(3)
    sealers.catch(NAMES[4])
    assert named(sealers, [], []) == {4}
