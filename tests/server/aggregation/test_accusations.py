"""Disputes about boxes: who is left out, and for how long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from bract.privacy.secagg.bitset import to_bits
from bract.server.aggregation.accusations import Accusations

NAMES = [bytes([place]) * 32 for place in range(10)]


class Ten:
    """Ten devices in a cohort: everyone is a neighbour of everyone, and place 9 has shared nothing."""

    cards = tuple(SimpleNamespace(identity=name) for name in NAMES)
    boxes = dict.fromkeys(range(9), b"")

    def neighbours(self, place: int) -> tuple[int, ...]:
        return tuple(p for p in range(10) if p != place)


def named(accusations: Accusations, namers: list[int], senders: list[int]) -> set[int]:
    """Who is left out once these named those."""
    cohort: Any = Ten()
    for namer in namers:
        accusations.note(cohort, namer, to_bits(senders, 10))
    return {place for place, name in enumerate(NAMES) if accusations.left_out(name)}


def test_more_namers_than_colluders_leave_a_device_out() -> None:
    """Fewer leave out nobody."""
    assert named(Accusations(3), [1, 2, 3], [0]) == set()
    assert named(Accusations(3), [1, 2, 3, 4], [0]) == {0}
    assert named(Accusations(0), [1], [0, 5]) == {0, 5}


def test_one_who_names_another_many_times_counts_once() -> None:
    accusations = Accusations(3)
    assert named(accusations, [1, 2, 3] * 5, [0]) == set()
    assert named(accusations, [1, 2], [0]) == set()


def test_those_who_name_in_different_rounds_add_up() -> None:
    accusations = Accusations(2)
    assert named(accusations, [1], [0]) == set()
    assert named(accusations, [2, 3], [0]) == {0}


@pytest.mark.parametrize(
    "senders", [b"", b"\xff", b"\xff\xff\xff", to_bits([0, 1], 10), to_bits([0, 9], 10), b"\x01\x04"]
)
def test_a_list_of_none_who_sealed_says_nothing(senders: bytes) -> None:
    """Too short, too long, with the namer itself, with one who sealed nothing, beyond the cohort."""
    accusations, cohort = Accusations(0), Ten()
    accusations.note(cohort, 1, senders)  # type: ignore[arg-type]
    assert not any(accusations.left_out(name) for name in NAMES)


def test_one_who_is_caught_is_left_out_at_once() -> None:
    accusations = Accusations(3)
    accusations.note_liar(NAMES[4])
    assert named(accusations, [], []) == {4}


def sat_out(
    accusations: Accusations, named: Mapping[int, set[int]], least: int = 0, present: Iterable[int] = range(10)
) -> set[int]:
    """Who of ten sits out if these name those, and the others nobody."""
    cohort: Any = Ten()
    return accusations.choose_left_out(cohort, {place: named.get(place, set()) for place in present}, least)


def test_who_disagrees_with_most_sits_out() -> None:
    for named in ({1: {0}, 2: {0}, 3: {0}}, {0: {1, 2, 3}}, {0: {1}, 2: {0}}):
        assert sat_out(Accusations(3), named) == {0}


def test_nobody_sits_out_for_one_who_gave_no_answer() -> None:
    assert sat_out(Accusations(3), {1: {0}}, present=range(1, 10)) == set()


def test_two_who_disagree_sit_out_in_turn() -> None:
    accusations = Accusations(3)
    turns = [sat_out(accusations, {1: {0}}) for _ in range(4)]
    assert turns in ([{0}, {1}] * 2, [{1}, {0}] * 2)


def test_who_was_silent_sits_out_where_none_is_to_spare() -> None:
    """Where no other silence is to spare."""
    accusations, cohort = Accusations(3), Ten()
    accusations.note_silent(cohort, [1])  # type: ignore[arg-type]
    assert [sat_out(accusations, {1: {0}}, 9) for _ in range(4)] == [{1}] * 4
    assert {0} in [sat_out(accusations, {1: {0}}, 8) for _ in range(9)]


def test_the_silent_sit_out_though_they_are_more() -> None:
    """Two that name a third: a round without it is lost as soon as they and another are silent again."""
    accusations, cohort = Accusations(3), Ten()
    accusations.note_silent(cohort, [1, 2, 3])  # type: ignore[arg-type]
    assert [sat_out(accusations, {1: {0}, 2: {0}}, 7) for _ in range(4)] == [{1, 2}] * 4


def test_one_never_silent_who_names_all_sits_out_itself() -> None:
    accusations, cohort = Accusations(3), Ten()
    accusations.note_silent(cohort, range(1, 10))  # type: ignore[arg-type]
    assert [sat_out(accusations, {0: set(range(1, 9))}, 7) for _ in range(4)] == [{0}] * 4


def test_who_is_left_out_of_all_proves_nothing_on_others() -> None:
    accusations = Accusations(3)
    accusations.note_liar(NAMES[0])
    assert sat_out(accusations, {0: {1, 2, 3, 4}}) == {0}


@pytest.mark.parametrize("seed", range(10))
def test_of_no_two_who_disagree_both_stay_and_enough_do(seed: int) -> None:
    """Whatever three of ten say of others and others of them, over rounds: seven stay, as many as keep the rules."""
    choices, accusations = Random(seed), Accusations(3)
    for _ in range(180):
        named: dict[int, set[int]] = {place: set() for place in range(10)}
        for liar in (0, 1, 2):
            for other in choices.sample(range(1, 10), choices.randint(0, 3)):
                namer, sender = choices.choice([(liar, other), (other, liar)])
                named[namer] |= {sender} - {namer}
        out = sat_out(accusations, named, 7)
        assert not any(namer not in out and senders - out for namer, senders in named.items())
        assert len(out) <= 3
