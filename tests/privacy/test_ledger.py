from __future__ import annotations

import errno
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bract.privacy import (
    Budget,
    BudgetError,
    Composed,
    Entry,
    Event,
    Gaussian,
    Ledger,
    PoissonSampled,
    StateError,
    StorageError,
    Unbounded,
)
from bract.privacy.accounting import epsilon, rdp_epsilon

DELTA, DIGEST = 1e-5, "d" * 64
EVENT = PoissonSampled(0.5, Gaussian(4.0))
FREE = Budget(None, DELTA, "record", "released")


def cost(count: int, event: Event = EVENT) -> float:
    return epsilon(Composed(event, count), DELTA)


def budget(count: int) -> Budget:
    """What `count` events cost and a little more, yet less than one event more."""
    return Budget(cost(count) * 1.0001, DELTA, "record", "released")


def entry(number: int, *clients: int, release: str | None = None, event: Event = EVENT) -> Entry:
    return Entry(number, release or f"r{number}", clients or (1,), Unbounded(), event)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


@pytest.fixture
def written(path: Path) -> bytes:
    """A small ledger of three entries."""
    with Ledger(path, FREE, DIGEST) as ledger:
        for number in (1, 2, 3):
            ledger.spend(entry(number, number, 7))
    return path.read_bytes()


def opened(path: Path) -> tuple[Entry, ...]:
    with Ledger(path, FREE, DIGEST) as ledger:
        return ledger.entries


# What it charges


def test_refuses_past_the_budget_with_nothing_written(path: Path) -> None:
    with Ledger(path, budget(3), DIGEST) as ledger:
        for number in (1, 2, 3):
            ledger.spend(entry(number))
        before, head = path.read_bytes(), ledger.head
        with pytest.raises(BudgetError) as caught:
            ledger.spend(entry(4))
        assert path.read_bytes() == before
        assert (len(ledger.entries), ledger.head) == (3, head)
        assert ledger.spent("released") == cost(3)
    assert "round 4" in caught.value.what
    assert f"{cost(4):.4g}" in caught.value.what


def test_refuses_past_the_budget_after_a_restart_as_before_it(path: Path) -> None:
    for number in (1, 2, 3):
        with Ledger(path, budget(3), DIGEST) as ledger:
            ledger.spend(entry(number))
    with Ledger(path, budget(3), DIGEST) as ledger, pytest.raises(BudgetError):
        ledger.spend(entry(4))


def test_a_client_with_budget_left_may_go_on_after_another_was_refused(path: Path) -> None:
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1, 1))
        with pytest.raises(BudgetError):
            ledger.spend(entry(2, 1, 2))
        ledger.spend(entry(2, 2))
        assert ledger.spent("released") == cost(1)


def test_one_client_past_the_budget_is_enough_to_refuse_a_whole_cohort(path: Path) -> None:
    with Ledger(path, budget(2), DIGEST) as ledger:
        ledger.spend(entry(1, 5))
        ledger.spend(entry(2, 5))
        with pytest.raises(BudgetError):
            ledger.spend(entry(3, *range(1, 50)))
        ledger.spend(entry(3, *(client for client in range(1, 50) if client != 5)))


def test_the_same_release_is_charged_once(path: Path) -> None:
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2))
        before = path.read_bytes()
        ledger.spend(entry(1, 1, 2))
        assert path.read_bytes() == before
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2))
        assert path.read_bytes() == before
        assert ledger.participations() == {1: 1, 2: 1}


def test_the_same_round_under_another_release_name_is_charged_twice(path: Path) -> None:
    with Ledger(path, budget(2), DIGEST) as ledger:
        ledger.spend(entry(1, release="first"))
        ledger.spend(entry(1, release="second"))
        assert ledger.spent("released") == cost(2)
        with pytest.raises(BudgetError):
            ledger.spend(entry(1, release="third"))


@pytest.mark.parametrize(
    "other",
    [
        entry(2, 1, 2, release="name"),
        entry(1, 1, 3, release="name"),
        entry(1, 1, release="name"),
        entry(1, 1, 2, release="name", event=Gaussian(4.0)),
        Entry(1, "name", (1, 2), EVENT, EVENT),
    ],
)
def test_a_release_name_that_comes_back_with_anything_else_changed_is_charged(path: Path, other: Entry) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2, release="name"))
        ledger.spend(other)
        assert len(ledger.entries) == 2
        assert ledger.participations()[1] == 2


def test_spent_is_what_the_client_lost_that_lost_most(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        assert ledger.spent("released") == ledger.audit("released") == 0.0
        ledger.spend(entry(1, 1, 2))
        ledger.spend(entry(2, 2, 3))
        ledger.spend(entry(3, 2, event=Gaussian(8.0)))
        expected = ((EVENT, 2), (Gaussian(8.0), 1))
        assert ledger.spent("released") > cost(2)
        assert ledger.spent("released") <= ledger.audit("released") == rdp_epsilon(expected[::-1], DELTA)
        assert ledger.participations() == {1: 1, 2: 3, 3: 1}


def test_participations_leave_out_the_release_that_may_be_made_once_more_and_no_other(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1, 1, 2, release="first"))
        ledger.spend(entry(2, 1, 3, release="second"))
        assert ledger.participations() == {1: 2, 2: 1, 3: 1}
        assert ledger.participations(besides="second") == {1: 1, 2: 1}
        assert ledger.participations(besides="never") == ledger.participations()


@pytest.mark.parametrize("view", ["server", "released"])
def test_a_budget_binds_the_view_it_states(path: Path, view: Any) -> None:
    dear, cheap = Gaussian(1.0), Gaussian(100.0)
    events = (dear, cheap) if view == "server" else (cheap, dear)
    with Ledger(path, Budget(cost(1, dear) * 1.001, DELTA, "record", view), DIGEST) as ledger:
        ledger.spend(Entry(1, "a", (1,), *events))
        assert ledger.spent(view) == cost(1, dear)
        assert ledger.spent("released" if view == "server" else "server") == cost(1, cheap)
        with pytest.raises(BudgetError):
            ledger.spend(Entry(2, "b", (1,), *events))


def test_what_the_server_sees_is_unbounded_where_it_adds_the_noise_while_what_is_released_is_bounded(
    path: Path,
) -> None:
    with Ledger(path, budget(2), DIGEST) as ledger:
        ledger.spend(entry(1))
        assert ledger.spent("server") == ledger.audit("server") == math.inf
        assert ledger.spent("released") == cost(1)


def test_a_budget_against_the_server_refuses_what_no_noise_protects(path: Path) -> None:
    with Ledger(path, Budget(1e6, DELTA, "record", "server"), DIGEST) as ledger, pytest.raises(BudgetError):
        ledger.spend(entry(1))


def test_without_a_bound_everything_is_charged_and_nothing_refused(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        for number in range(1, 30):
            ledger.spend(entry(number, event=Unbounded()))
        assert ledger.participations() == {1: 29}


# What lies on disk


def test_reopening_gives_back_entries_head_and_figures(path: Path) -> None:
    entries = (
        entry(1, 1, 2),
        entry(2, 2**63 + 5, event=Composed(EVENT, 3)),
        Entry(3, "é\n\u2028", (2,), EVENT, EVENT),
    )
    with Ledger(path, FREE, DIGEST) as ledger:
        for one in entries:
            ledger.spend(one)
        head, released = ledger.head, ledger.spent("released")
    with Ledger(path, FREE, DIGEST) as ledger:
        assert (ledger.entries, ledger.head) == (entries, head)
        assert ledger.spent("released") == released
        assert ledger.participations() == {1: 1, 2: 2, 2**63 + 5: 1}


def test_knows_every_head_it_ever_had_and_no_other(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        heads = [ledger.head]
        for number in (1, 2, 3):
            ledger.spend(entry(number))
            heads.append(ledger.head)
    with Ledger(path, FREE, DIGEST) as ledger:
        assert len(set(heads)) == 4
        assert all(ledger.knows(head) for head in heads)
        assert not ledger.knows("f" * 64)
        assert not ledger.knows(heads[0][:-1])


def test_a_ledger_that_lost_its_last_line_does_not_know_the_head_it_had(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        ledger.spend(entry(1))
        ledger.spend(entry(2))
        head = ledger.head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with Ledger(path, FREE, DIGEST) as ledger:
        assert ledger.entries == (entry(1),)
        assert not ledger.knows(head)
        ledger.spend(entry(2, release="again"))
        assert not ledger.knows(head)


def test_the_charge_is_synced_when_spend_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was written is in the file at the last sync, so nothing is left to a cache."""
    synced: list[bytes] = []

    def fsync(_: int) -> None:
        synced.append(path.read_bytes())

    with Ledger(path, FREE, DIGEST) as ledger:
        monkeypatch.setattr("bract.privacy.ledger.os.fsync", fsync)
        for number in (1, 2):
            ledger.spend(entry(number))
            assert len(synced) == number
            assert synced[-1] == path.read_bytes()
            assert f'"round":{number}'.encode() in synced[-1]
        monkeypatch.undo()


def test_a_new_ledger_and_its_name_in_the_folder_are_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.path.isdir(f"/proc/self/fd/{descriptor}")))
    with Ledger(path, FREE, DIGEST):
        pass
    monkeypatch.undo()
    assert synced == [False, True]


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


@pytest.mark.parametrize("mask", [0x01, 0x02, 0x20, 0x26, 0x80])
def test_a_changed_byte_anywhere_is_refused_with_its_line(path: Path, written: bytes, mask: int) -> None:
    exponent = written.index(b"1e-05") + 1
    for position, number in rows(written[:-1]):
        if (position, mask) == (exponent, 0x20):  # 1E-05 is the same number
            continue
        put(path, position, written[position] ^ mask)
        with pytest.raises(StateError) as caught:
            opened(path)
        line = re.fullmatch(r".* is damaged at line (\d+)", caught.value.what)
        assert line, (position, caught.value.what)
        assert int(line[1]) == number
        put(path, position, written[position])
    assert path.read_bytes() == written


def test_the_last_line_without_its_newline_counts_as_never_acknowledged(path: Path, written: bytes) -> None:
    path.write_bytes(written[:-1] + b"x")
    assert opened(path) == (entry(1, 1, 7), entry(2, 2, 7))


def test_a_file_cut_at_any_byte_opens_with_its_complete_lines_and_goes_on(
    tmp_path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bract.privacy.ledger.os.fsync", lambda _: None)  # for speed: other tests watch it
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


def test_every_line_is_plain_json_that_carries_its_hash_and_the_one_before(written: bytes) -> None:
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


# Who may write


def test_a_second_handle_in_the_same_process_cannot_open_it(path: Path) -> None:
    with Ledger(path, FREE, DIGEST):
        for _ in range(3):
            with pytest.raises(StateError, match="in use"):
                Ledger(path, FREE, DIGEST)
    assert opened(path) == ()


def test_a_refused_ledger_leaves_the_lock_to_others(path: Path, written: bytes) -> None:
    with pytest.raises(StateError):
        Ledger(path, FREE, "e" * 64)
    assert len(opened(path)) == 3


def test_a_lock_is_held_until_closed_even_after_a_refused_charge(path: Path) -> None:
    with Ledger(path, budget(1), DIGEST) as ledger:
        ledger.spend(entry(1))
        with pytest.raises(BudgetError):
            ledger.spend(entry(2))
        with pytest.raises(StateError, match="in use"):
            Ledger(path, budget(1), DIGEST)


SECOND = """
import sys
from pathlib import Path
from bract.privacy import Budget, Ledger
Ledger(Path(sys.argv[1]), Budget(None, 1e-5, "record", "released"), "d" * 64)
"""


def test_a_second_process_cannot_open_it(path: Path) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        run = subprocess.run([sys.executable, "-c", SECOND, str(path)], capture_output=True, text=True, timeout=60)
        assert "StateError" in run.stderr
        assert "in use by another process" in run.stderr
        ledger.spend(entry(1))
    assert opened(path) == (entry(1),)


# When the disk fails


def full(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def torn_write(real: Callable[..., int]) -> Callable[..., int]:
    """Write that puts down half a line and then finds the disk full."""
    calls = iter([lambda descriptor, data: real(descriptor, data[: len(data) // 2])])
    return lambda descriptor, data: next(calls, full)(descriptor, data)


@pytest.mark.parametrize("fault", ["write", "torn write", "fsync"])
def test_a_full_disk_charges_nothing_and_leaves_the_ledger_usable(
    path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    with Ledger(path, FREE, DIGEST) as ledger:
        head, released = ledger.head, ledger.spent("released")
        with monkeypatch.context() as patch:
            name = fault.split()[-1]
            patch.setattr(f"bract.privacy.files.os.{name}", torn_write(os.write) if fault == "torn write" else full)
            with pytest.raises(StorageError) as caught:
                ledger.spend(entry(4, 7))
        assert path.read_bytes() == written
        assert (len(ledger.entries), ledger.head, ledger.spent("released")) == (3, head, released)
        assert ledger.participations()[7] == 3
        assert "no space left" in caught.value.what
        ledger.spend(entry(4, 7))
        assert ledger.participations()[7] == 4
    assert len(opened(path)) == 4


def test_a_disk_that_is_full_from_the_start_makes_no_ledger_and_frees_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.files.os.write", full)
        with pytest.raises(StorageError):
            Ledger(path, FREE, DIGEST)
    assert opened(path) == ()


def test_a_folder_that_is_not_there_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Ledger(tmp_path / "none" / "ledger.jsonl", FREE, DIGEST)


KILLS = """
import os, random, signal, sys, time
from pathlib import Path
from bract.privacy import Budget, Entry, Gaussian, Ledger

path = Path(sys.argv[1])
random.seed(int(sys.argv[2]))

def ledger():
    return Ledger(path, Budget(None, 1e-5, "record", "released"), "d" * 64)

def spend_for_ever():
    with ledger() as open_ledger:
        while True:
            number = len(open_ledger.entries) + 1
            open_ledger.spend(Entry(number, f"r{number}", tuple(range(50)), Gaussian(1.0), Gaussian(1.0)))
            print(number, flush=True)

acknowledged = on_disk = 0
for _ in range(30):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 1)
        spend_for_ever()
    os.close(write)
    time.sleep(random.uniform(0.001, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(read) as stream:
        told = [int(line) for line in stream.read().splitlines()]
    acknowledged = told[-1] if told else acknowledged
    with ledger() as after:
        numbers = [entry.round for entry in after.entries]
    assert numbers == list(range(1, len(numbers) + 1)), "entries are missing"
    assert max(acknowledged, on_disk) <= len(numbers) <= max(acknowledged, on_disk) + 1, (acknowledged, len(numbers))
    on_disk = len(numbers)
print("acknowledged", acknowledged)
"""


def test_no_acknowledged_charge_is_lost_by_a_process_that_is_killed_at_any_moment(path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLS, str(path), "1"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.removeprefix("acknowledged ")) > 30
