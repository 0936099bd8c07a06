"""Messages between server and device: whole or malformed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bract.privacy.messages import RAW, Malformed, Offer, model_digest, read_offer, read_parameters, read_sections
from bract.privacy.server_view import Code, read_code, read_update

values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.lists(st.integers(), max_size=3),
)
fields = st.dictionaries(st.sampled_from(["round", "plan", "code", "more", ""]), values, max_size=4)
dtypes = st.sampled_from(["float32", "float64", "int64", "uint64", "<f4", "", "object"])
styles = st.sampled_from([RAW, "numpy.ndarray", ""])
shapes = st.lists(st.integers(-3, 40), max_size=3).map(tuple)


@given(st.integers(1, 2**63 - 1), st.text())
def test_an_offer_reads_back_equal(number: int, plan: str) -> None:
    offer = Offer(number, plan)
    assert read_offer(offer.to_fields()) == offer


@given(fields)
@example({"round": 1, "plan": "", "more": 1})
@example({"round": 0, "plan": ""})
def test_any_fields_are_a_whole_offer_or_malformed(given_fields: dict[str, Any]) -> None:
    try:
        offer = read_offer(given_fields)
    except Malformed:
        return
    assert offer.to_fields() == given_fields
    assert offer.round >= 1


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"round": 1},
        {"plan": ""},
        {"round": 0, "plan": ""},
        {"round": -1, "plan": ""},
        {"round": 1.0, "plan": ""},
        {"round": "1", "plan": ""},
        {"round": 1, "plan": b""},
        {"round": 1, "plan": None},
        {"round": 1, "plan": "", "seed": 7},
    ],
    ids=str,
)
def test_an_offer_of_other_keys_or_types_is_malformed(bad: dict[str, Any]) -> None:
    """With a key missing, added or of another type."""
    with pytest.raises(Malformed):
        read_offer(bad)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_reads_back_equal(code: Code) -> None:
    assert read_code({"code": str(code)}) is code


@given(st.one_of(fields, st.fixed_dictionaries({"code": values})))
@example({"code": "ok", "error": "record 17 is damaged"})
@example({"code": "OK"})
def test_any_other_answer_is_malformed(given_fields: dict[str, Any]) -> None:
    try:
        code = read_code(given_fields)
    except Malformed:
        return
    assert given_fields == {"code": str(code)}


def test_a_code_is_a_word_of_letters() -> None:
    """So that no text of an exception fits in."""
    assert all(str(code).isalpha() and len(code) < 16 for code in Code)


finite = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(st.lists(finite, max_size=20))
def test_parameters_read_back_bit_for_bit(numbers: list[float]) -> None:
    vector = np.array(numbers, dtype=np.float32)
    found = read_parameters("float32", vector.shape, RAW, vector.astype("<f4").tobytes())
    assert found.tobytes() == vector.tobytes()
    assert found.dtype == np.float32


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_an_update_reads_back_bit_for_bit(numbers: list[int]) -> None:
    vector = np.array(numbers, dtype=np.uint64)
    found = read_update("uint64", vector.shape, RAW, vector.astype("<u8").tobytes(), len(vector))
    assert found.tolist() == numbers
    assert found.dtype == np.uint64


@given(dtypes, shapes, styles, st.binary(max_size=64))
@example("float32", (0,), RAW, b"")
@example("float32", (1,), RAW, b"\0\0\x80\x7f")
def test_any_bytes_are_finite_parameters_or_malformed(
    dtype: str, shape: tuple[int, ...], style: str, data: bytes
) -> None:
    """Of the stated length."""
    try:
        vector = read_parameters(dtype, shape, style, data)
    except Malformed:
        return
    assert (dtype, style) == ("float32", RAW)
    assert vector.shape == shape
    assert np.isfinite(vector).all()


@given(dtypes, shapes, styles, st.binary(max_size=64), st.integers(0, 8))
@example("uint64", (0,), RAW, b"", 0)
@example("int64", (1,), RAW, bytes(8), 1)
def test_any_bytes_are_an_update_or_malformed(
    dtype: str, shape: tuple[int, ...], style: str, data: bytes, count: int
) -> None:
    """Of the expected length."""
    try:
        vector = read_update(dtype, shape, style, data, count)
    except Malformed:
        return
    assert (dtype, style, shape) == ("uint64", RAW, (count,))
    assert vector.tobytes() == data


GOOD = np.arange(4, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    ("dtype", "shape", "style", "data"),
    [
        ("float64", (4,), RAW, GOOD),
        ("float32", (2, 2), RAW, GOOD),
        ("float32", (), RAW, GOOD),
        ("float32", (3,), RAW, GOOD),
        ("float32", (5,), RAW, GOOD),
        ("float32", (-4,), RAW, GOOD),
        ("float32", (4,), "numpy.ndarray", GOOD),
        ("float32", (4,), RAW, GOOD + b"\0"),
        ("float32", (4,), RAW, b"\x80" + np.array([1, 2, 3, np.nan], dtype="<f4").tobytes()[1:]),
        ("float32", (4,), RAW, np.array([1, 2, 3, -np.inf], dtype="<f4").tobytes()),
    ],
)
def test_parameters_of_another_make_or_not_finite_are_malformed(
    dtype: str, shape: tuple[int, ...], style: str, data: bytes
) -> None:
    assert read_parameters("float32", (4,), RAW, GOOD).tolist() == [0, 1, 2, 3]
    with pytest.raises(Malformed):
        read_parameters(dtype, shape, style, data)


def test_an_update_of_another_length_than_the_model_is_malformed() -> None:
    data = np.arange(4, dtype="<u8").tobytes()
    assert read_update("uint64", (4,), RAW, data, 4).tolist() == [0, 1, 2, 3]
    for count in (0, 3, 5):
        with pytest.raises(Malformed):
            read_update("uint64", (4,), RAW, data, count)
    for dtype in ("float32", "int64"):
        with pytest.raises(Malformed):
            read_update(dtype, (4,), RAW, data, 4)


def test_vectors_that_were_read_cannot_be_written_to() -> None:
    vector = read_parameters("float32", (4,), RAW, GOOD)
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 1.0
    words = read_update("uint64", (2,), RAW, GOOD, 2)
    with pytest.raises(ValueError, match="read-only"):
        words[0] = 1


def test_a_malformed_message_says_nothing_of_its_content() -> None:
    with pytest.raises(Malformed) as caught:
        read_offer({"round": 1, "plan": "secret", "patient": "secret"})
    assert "secret" not in str(caught.value)
    with pytest.raises(Malformed) as caught:
        read_sections({"cohort": b"secret", "secret": b"secret"}, ("cohort",))
    assert "secret" not in str(caught.value)


# Sections

NAMES = ["cohort", "keys", "cards", ""]
names = st.sets(st.sampled_from(NAMES))


def test_needed_and_possible_sections_are_read() -> None:
    """Those that are needed, and such as may be there."""
    assert read_sections({}, ()) == {}
    assert read_sections({"cohort": b"a"}, ("cohort",)) == {"cohort": b"a"}
    assert read_sections({"cohort": b"a"}, ("cohort",), ("keys",)) == {"cohort": b"a"}
    assert read_sections({"cohort": b"a", "keys": b""}, ("cohort",), ("keys",)) == {"cohort": b"a", "keys": b""}


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"keys": b""},
        {"cohort": b"a", "cards": b""},
        {"cohort": "a"},
        {"cohort": None},
        {"cohort": [b"a"]},
        {"cohort": bytearray(b"a")},
        {"cohort": b"a", "keys": 1},
        {"cohort": b"a", "": b""},
    ],
    ids=str,
)
def test_a_missing_unknown_or_odd_section_is_malformed(bad: dict[str, Any]) -> None:
    """An odd one is not bytes."""
    with pytest.raises(Malformed):
        read_sections(bad, ("cohort",), ("keys",))


@given(st.dictionaries(st.sampled_from(NAMES), values, max_size=4), names, names)
@example({"cohort": b"a"}, {"cohort"}, set())
def test_any_fields_are_just_the_sections_asked_for_or_malformed(
    given_fields: dict[str, Any], needed: set[str], also: set[str]
) -> None:
    try:
        sections = read_sections(given_fields, needed, also)
    except Malformed:
        return
    assert sections == given_fields
    assert needed <= set(sections) <= needed | also
    assert all(isinstance(data, bytes) for data in sections.values())


def test_the_model_digest_covers_numbers_and_scale() -> None:
    """Masks are bound to it: devices that were offered different things must have no sum."""
    parameters = np.arange(4, dtype=np.float32)
    same = [model_digest(parameters, 1.0), model_digest(parameters.astype(">f4"), 1.0)]
    others = [model_digest(parameters[::-1], 1.0), model_digest(parameters, 2.0), model_digest(parameters, 0.5)]
    assert same[0] == same[1]
    assert len({same[0], *others}) == 4
