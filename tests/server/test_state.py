"""The checkpoint of a training."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bract.privacy import StateError, StorageError
from bract.server.state import ServerState, read_checkpoint, write_checkpoint

floats = st.floats(width=32)
vectors = hnp.arrays(np.float32, st.integers(0, 20), elements=floats)
tensors = hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=2, max_side=5), elements=floats)
heads = st.text("0123456789abcdef", min_size=64, max_size=64)
states = st.builds(
    ServerState,
    round=st.integers(0, 2**31),
    parameters=vectors,
    model=vectors,
    optimizer=st.dictionaries(st.text("abcdefgh_.", min_size=1, max_size=20), tensors, max_size=3),
    ledger_head=heads,
    plan_digest=heads,
    seconds=st.floats(0, 1e9),
)


def state(**changes: Any) -> ServerState:
    numbers = np.arange(3, dtype=np.float32)
    parts = {"round": 2, "parameters": numbers, "model": numbers / 2, "optimizer": {"exp_avg": numbers + 1}}
    return ServerState(**(parts | {"ledger_head": "a" * 64, "plan_digest": "b" * 64, "seconds": 1.5} | changes))


def same(one: ServerState, other: ServerState) -> bool:
    """Whether two states are the same to the last bit."""

    def facts(s: ServerState) -> tuple[object, ...]:
        arrays = {"parameters": s.parameters, "model": s.model} | {f"o.{n}": t for n, t in s.optimizer.items()}
        packed = {name: (a.dtype, a.shape, a.tobytes()) for name, a in arrays.items()}
        return s.round, s.ledger_head, s.plan_digest, s.seconds, packed

    return facts(one) == facts(other)


def fault(path: Path) -> str:
    """The first line of the two-line StateError that reading the checkpoint raises."""
    with pytest.raises(StateError) as caught:
        read_checkpoint(path)
    what, hint = str(caught.value).split("\n")
    assert what.startswith(f"error: the checkpoint {path} is ")
    assert hint.startswith("hint: ")
    return what


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=states)
def test_a_state_is_read_back_to_the_last_bit(tmp_path: Path, before: ServerState) -> None:
    path = tmp_path / "checkpoint.bract"
    write_checkpoint(path, before)
    after = read_checkpoint(path)
    assert after is not None
    assert same(before, after)


def test_what_is_read_can_be_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.bract"
    write_checkpoint(path, state())
    first = path.read_bytes()
    again = read_checkpoint(path)
    assert again is not None
    write_checkpoint(path, again)
    assert path.read_bytes() == first


def test_where_there_is_no_checkpoint_there_is_no_state(tmp_path: Path) -> None:
    assert read_checkpoint(tmp_path / "checkpoint.bract") is None


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_seen(tmp_path: Path, mask: int) -> None:
    path = tmp_path / "checkpoint.bract"
    write_checkpoint(path, state())
    content = path.read_bytes()
    for number in range(len(content)):
        path.write_bytes(content[:number] + bytes([content[number] ^ mask]) + content[number + 1 :])
        assert "checksum" in fault(path)


def test_a_checkpoint_cut_at_any_byte_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.bract"
    write_checkpoint(path, state())
    content = path.read_bytes()
    for end in range(len(content)):
        path.write_bytes(content[:end])
        assert "checksum" in fault(path)


def test_a_checkpoint_with_a_byte_more_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.bract"
    write_checkpoint(path, state())
    path.write_bytes(path.read_bytes() + b"\0")
    assert "checksum" in fault(path)


@pytest.mark.parametrize("body", [b"", b"\0" * 8, b"\2\0\0\0\0\0\0\0{}", b"\xff" * 40, b"\4\0\0\0\0\0\0\0null"])
def test_a_file_with_a_checksum_but_no_state_is_refused(tmp_path: Path, body: bytes) -> None:
    """Its checksum is right."""
    path = tmp_path / "checkpoint.bract"
    path.write_bytes(hashlib.sha256(body).digest() + body)
    assert "not one of this version" in fault(path)


def full(*arguments: object, **options: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data[: len(data) // 2])
    full()


@pytest.mark.parametrize(
    ("place", "failing"),
    [
        ("bract.privacy.storage.write_all", half),
        ("bract.privacy.storage.os.fsync", full),
        ("bract.privacy.storage.os.replace", full),
        ("bract.privacy.storage.os.open", full),
    ],
)
def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, failing: Callable[..., object]
) -> None:
    path = tmp_path / "checkpoint.bract"
    write_checkpoint(path, state())
    with monkeypatch.context() as patched:
        patched.setattr(place, failing)
        with pytest.raises(StorageError, match="no space left on device"):
            write_checkpoint(path, state(round=3))
    kept = read_checkpoint(path)
    assert kept is not None
    assert same(kept, state())
    assert list(tmp_path.iterdir()) == [path]


def test_a_state_holds_no_secret_but_noise_to_be_taken_back() -> None:
    """Noise that later rounds take back."""
    assert set(vars(state())) == {
        "round",
        "parameters",
        "model",
        "optimizer",
        "ledger_head",
        "plan_digest",
        "seconds",
        "scale",
        "block",
        "noise",
    }
    assert state().noise is None


def test_a_state_does_not_print_its_numbers() -> None:
    assert "0." not in repr(state())
