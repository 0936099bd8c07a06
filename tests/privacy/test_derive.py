"""Digests of labelled parts."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bract.privacy.derive import VERSION, derive, digest

inputs = st.tuples(st.text(max_size=8), st.lists(st.binary(max_size=12), max_size=4))


def test_a_digest_hashes_its_parts_after_their_lengths() -> None:
    """Each part has its length before it."""
    written = b"".join(len(part).to_bytes(8, "big") + part for part in (VERSION, b"card", b"abc", b""))
    assert digest("card", b"abc", b"") == hashlib.sha256(written).digest()


@given(inputs, inputs)
def test_different_inputs_have_different_digests(one: tuple, other: tuple) -> None:
    assume(one != other)
    assert digest(one[0], *one[1]) != digest(other[0], *other[1])


@given(st.binary(max_size=20), st.integers(0, 20))
def test_no_border_between_parts_can_be_moved(data: bytes, at: int) -> None:
    assume(at < len(data))
    split = digest("label", data[:at], data[at:])
    assert split != digest("label", data)
    assert split != digest("label", data[: at + 1], data[at + 1 :])
    assert split != digest("label" + data[:at].decode("latin-1"), data[at:])


def test_a_number_is_eight_bytes_big_endian() -> None:
    assert digest("n", 258) == digest("n", bytes([0, 0, 0, 0, 0, 0, 1, 2]))
    assert digest("n", 2**64 - 1) == digest("n", b"\xff" * 8)


@pytest.mark.parametrize("number", [-1, 2**64])
def test_a_number_that_eight_bytes_do_not_hold_is_an_error(number: int) -> None:
    with pytest.raises(OverflowError):
        digest("n", number)


def test_secret_salt_label_and_parts_each_change_what_is_derived() -> None:
    made = {
        derive(b"s" * 32, b"salt", "use", b"a", b"b"),
        derive(b"t" * 32, b"salt", "use", b"a", b"b"),
        derive(b"s" * 32, b"tlas", "use", b"a", b"b"),
        derive(b"s" * 32, b"", "use", b"a", b"b"),
        derive(b"s" * 32, b"salt", "esu", b"a", b"b"),
        derive(b"s" * 32, b"salt", "use", b"ab", b""),
        derive(b"s" * 32, b"salt", "use", b"b", b"a"),
        derive(b"s" * 32, b"salt", "use"),
    }
    assert len(made) == 8
    assert {len(key) for key in made} == {32}


def test_a_longer_key_begins_with_the_shorter_one() -> None:
    assert derive(b"s", b"", "use", length=64)[:32] == derive(b"s", b"", "use")
