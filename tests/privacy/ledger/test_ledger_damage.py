"""The ledger's file, damaged at any byte."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ledgers import DELTA, DIGEST, FREE, entry, opened, write_three

from bract.privacy import Budget, Ledger, StateError
from bract.privacy.ledger.hash_chain import Chain, read_lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What lies in a ledger of three entries."""
    return write_three(tmp_path_factory.mktemp("whole") / "ledger.jsonl")


def rows(data: bytes) -> Iterator[tuple[int, int]]:
    """Every position with the number of its line."""
    number = 1
    for position, byte in enumerate(data):
        yield position, number
        number += byte == 0x0A


def put(path: Path, position: int, byte: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(bytes([byte]))


@pytest.mark.parametrize("mask", [*(1 << bit for bit in range(8)), 0x26, 0xFF])
def test_a_changed_byte_anywhere_is_refused_with_its_line(path: Path, written: bytes, mask: int) -> None:
    for position, number in rows(written):
        put(path, position, written[position] ^ mask)
        with pytest.raises(StateError) as caught:
            opened(path)
        line = re.fullmatch(r".* is damaged at line (\d+)", caught.value.what)
        assert line, (position, caught.value.what)
        assert int(line[1]) == number
        put(path, position, written[position])
    assert path.read_bytes() == written


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_byte_in_any_place_makes_the_line_damaged(whole: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(whole) - 1))
    number = whole[:position].count(b"\n") + 1
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[position]))
    with pytest.raises(StateError, match=rf"is damaged at line {number}\n"):
        read_lines(Path("ledger"), whole[:position] + bytes([byte]) + whole[position + 1 :])


def test_the_last_newline_cannot_become_anything_else(whole: bytes) -> None:
    for byte in set(range(256)) - {0x0A}:
        with pytest.raises(StateError, match=r"is damaged at line 4\n"):
            read_lines(Path("ledger"), whole[:-1] + bytes([byte]))


def test_a_last_line_without_its_newline_never_counted(path: Path, written: bytes) -> None:
    """It was never acknowledged."""
    path.write_bytes(written[:-1])
    assert opened(path) == (entry(1, 1, 7), entry(2, 2, 7))


@pytest.mark.parametrize(
    ("was", "becomes"), [(b"1e-05", b"1E-05"), (b"4.0", b"4.00"), (b'"round":1', b'"round": 1'), (b"}\n", b"} \n")]
)
def test_a_line_of_the_same_meaning_written_otherwise_fails(
    path: Path, written: bytes, was: bytes, becomes: bytes
) -> None:
    """The ledger is refused."""
    path.write_bytes(written.replace(was, becomes, 1))
    with pytest.raises(StateError, match=r"is damaged at line [12]\n"):
        opened(path)


def test_a_file_cut_at_any_byte_opens_with_its_whole_lines(
    tmp_path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger goes on from them."""
    monkeypatch.setattr("bract.privacy.ledger.hash_chain.os.fsync", lambda _: None)  # for speed: other tests watch it
    entries = tuple(entry(number, number, 7) for number in (1, 2, 3))
    for length in range(len(written) + 1):
        path = tmp_path / f"cut{length}"
        path.write_bytes(written[:length])
        kept = entries[: max(0, written[:length].count(b"\n") - 1)]
        with Ledger(path, FREE, DIGEST) as ledger:
            assert ledger.entries == kept
            ledger.spend(entry(9))
        assert opened(path) == (*kept, entry(9))
        assert path.read_bytes().startswith(written[: written[:length].rfind(b"\n") + 1])


@pytest.mark.parametrize("garbage", [b"x", b"\0" * 4096, b'{"round":4', b"\xff\xfe", b"   "])
def test_garbage_after_the_last_newline_is_dropped(path: Path, written: bytes, garbage: bytes) -> None:
    path.write_bytes(written + garbage)
    assert len(opened(path)) == 3
    assert path.read_bytes() == written


@pytest.mark.parametrize("garbage", [b"\n", b"x\n", b"{}\n", b"[]\n", b"null\n", b"\0\n", b"\xff\xfe\n", b'"text"\n'])
def test_a_complete_line_of_garbage_is_refused(path: Path, written: bytes, garbage: bytes) -> None:
    path.write_bytes(written + garbage)
    with pytest.raises(StateError, match="line 5"):
        opened(path)


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_line_that_is_missing_before_the_last_is_noticed(path: Path, written: bytes, missing: int) -> None:
    lines = written.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:missing] + lines[missing + 1 :]))
    with pytest.raises(StateError, match=f"line {missing + 1}"):
        opened(path)


@pytest.mark.parametrize("order", [(0, 2, 1, 3), (0, 1, 1, 2, 3), (0, 1, 2, 3, 3), (0, 0, 1, 2, 3)])
def test_lines_in_another_order_or_twice_are_noticed(path: Path, written: bytes, order: tuple[int, ...]) -> None:
    lines = written.splitlines(keepends=True)
    path.write_bytes(b"".join(lines[i] for i in order))
    with pytest.raises(StateError, match="line"):
        opened(path)


def test_a_cheaper_event_with_the_old_hash_is_noticed(path: Path, written: bytes) -> None:
    path.write_bytes(written.replace(b'"noise_multiplier":4.0', b'"noise_multiplier":400.0'))
    with pytest.raises(StateError, match="line 2"):
        opened(path)


def test_every_line_is_json_with_its_hash_and_the_one_before(written: bytes) -> None:
    lines = [json.loads(line) for line in written.splitlines()]
    assert lines[0]["budget"] == FREE.to_json()
    assert lines[0]["previous"] == "0" * 64
    assert [line["previous"] for line in lines[1:]] == [line["hash"] for line in lines[:-1]]


@pytest.mark.parametrize(
    ("other", "digest"),
    [
        (Budget(1.0, DELTA, "record", "released"), DIGEST),
        (Budget(None, 1e-6, "record", "released"), DIGEST),
        (Budget(None, DELTA, "client", "released"), DIGEST),
        (Budget(None, DELTA, "record", "server"), DIGEST),
        (Budget(None, DELTA, "record", "released", "replace-one"), DIGEST),
        (FREE, "e" * 64),
    ],
)
def test_another_budget_or_plan_is_refused_and_the_file_kept(
    path: Path, written: bytes, other: Budget, digest: str
) -> None:
    with pytest.raises(StateError, match="another plan or budget"):
        Ledger(path, other, digest)
    assert path.read_bytes() == written


def test_a_ledger_of_another_format_is_refused_by_name(path: Path, written: bytes) -> None:
    """It is not taken for one of another plan, and not written to."""
    header = json.loads(written.splitlines()[0])
    body = {key: value for key, value in header.items() if key not in ("previous", "hash")}
    path.unlink()
    Chain(path, body | {"format": 1}).close()
    before = path.read_bytes()
    with pytest.raises(StateError, match=r"is a ledger of bract 0\.4 or older"):
        opened(path)
    assert path.read_bytes() == before
