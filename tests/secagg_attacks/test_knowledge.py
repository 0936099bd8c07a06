"""The judge of all attacks, on masks whose sums are known beforehand: it says neither too little nor too much."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
from knowledge import sums_that_open


def round_of(who: str, unknown_pairs: set[frozenset[str]], unknown_own: str = "") -> list[dict[bytes, int]]:
    """The unknown masks of one round of these devices, who are named by letters."""
    return [
        {f"own {one}".encode(): 1 for _ in [0] if one in unknown_own}
        | {
            "pair {} {}".format(*sorted((one, other))).encode(): 1 if one < other else -1
            for other in who
            if frozenset((one, other)) in unknown_pairs
        }
        for one in who
    ]


def pairs(who: str) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in combinations(who, 2)}


def opened(rows: list[dict[bytes, int]], who: str) -> list[str]:
    return sorted("".join(sorted(found.left)) for found in sums_that_open(rows, who))


def test_nothing_opens_while_an_own_mask_is_unknown() -> None:
    assert opened(round_of("abcd", pairs("abcd"), "abcd"), "abcd") == []


def test_one_unknown_own_mask_keeps_its_whole_part_closed() -> None:
    """All that its owner hangs together with."""
    assert opened(round_of("abcd", pairs("abcd"), "c"), "abcd") == []
    assert opened(round_of("abcd", pairs("ab") | pairs("cd"), "c"), "abcd") == ["ab"]


def test_known_own_masks_open_the_sum_of_their_round_alone() -> None:
    assert opened(round_of("abcd", pairs("abcd")), "abcd") == ["abcd"]


def test_a_vector_whose_pairs_are_all_known_opens_alone() -> None:
    assert opened(round_of("abcd", pairs("bcd")), "abcd") == ["a", "bcd"]


def test_a_chain_of_pairs_is_enough_to_keep_vectors_together() -> None:
    chain = {frozenset("ab"), frozenset("bc"), frozenset("cd")}
    assert opened(round_of("abcd", chain), "abcd") == ["abcd"]


def test_a_mask_added_twice_cancels_one_taken_twice() -> None:
    assert opened([{b"k": 2}, {b"k": -1}], "ab") == ["ab"]
    assert opened([{b"k": 1}, {b"k": 1}], "ab") == ["ab"]


def test_of_several_sums_that_open_the_least_is_found() -> None:
    """Where more than one combination opens."""
    assert opened([{b"k": 1}, {b"k": 1, b"l": 1}, {b"k": 1, b"l": -1}, {b"k": -1}], "abcd") == ["ad"]


def test_two_sums_open_what_they_differ_by() -> None:
    """Vector c is masked in two rounds of which one has d besides: nothing of it is to be seen in either alone."""
    first, second = round_of("abc", pairs("abc")), round_of("abcd", pairs("abcd"))
    apart = [{b"2" + key: sign for key, sign in row.items()} for row in second]
    assert opened([*first, *apart], "abcabcd") == ["d"]
    assert opened([*first, *apart], "abcefgd") == ["abc", "defg"]


def test_a_sum_in_which_nothing_is_left_opens_nothing() -> None:
    assert opened([{b"k": 1}, {b"k": 1}], "aa") == []


@given(st.integers(2, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2 ** (n * (n - 1) // 2) - 1))))
def test_what_opens_is_what_unknown_pairs_hang_together(drawn: tuple[int, int]) -> None:
    """Pairs whose masks are unknown join the vectors of a part."""
    count, mask = drawn
    who = "abcdefg"[:count]
    unknown = {frozenset(pair) for at, pair in enumerate(combinations(who, 2)) if mask >> at & 1}
    groups = [{one} for one in who]
    for pair in unknown:
        joined = set[str]().union(*(group for group in groups if group & pair))
        groups = [group for group in groups if not group & pair] + [joined]
    assert opened(round_of(who, unknown), who) == sorted("".join(sorted(group)) for group in groups)
