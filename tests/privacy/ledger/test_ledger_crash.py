"""The ledger under locks, full disks and killed processes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledgers import DIGEST, FREE, budget, entry, opened

from bract.privacy import (
    BudgetError,
    Ledger,
    StateError,
    StorageError,
)

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
def test_a_full_disk_charges_nothing_and_harms_no_ledger(
    path: Path, written: bytes, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The ledger stays usable."""
    with Ledger(path, FREE, DIGEST) as ledger:
        head, released = ledger.head, ledger.spent("released")
        with monkeypatch.context() as patch:
            name = fault.split()[-1]
            patch.setattr(f"bract.privacy.storage.os.{name}", torn_write(os.write) if fault == "torn write" else full)
            with pytest.raises(StorageError) as caught:
                ledger.spend(entry(4, 7))
        assert path.read_bytes() == written
        assert (len(ledger.entries), ledger.head, ledger.spent("released")) == (3, head, released)
        assert ledger.participations()["7"] == 3
        assert "no space left" in caught.value.what
        ledger.spend(entry(4, 7))
        assert ledger.participations()["7"] == 4
    assert len(opened(path)) == 4


def test_a_disk_full_from_the_start_makes_no_ledger(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It frees the lock."""
    with monkeypatch.context() as patch:
        patch.setattr("bract.privacy.storage.os.write", full)
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
            open_ledger.spend(Entry(number, f"r{number}", tuple(map(str, range(50))), Gaussian(1.0), Gaussian(1.0)))
            print(number, flush=True)

acknowledged = on_disk = 0
for _ in range(30):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.dup2(write, 1)
        spend_for_ever()
    os.close(write)
    with os.fdopen(read) as stream:
        heard = "".join(stream.readline() for _ in range(random.randint(0, 3)))  # however busy the machine is
        time.sleep(random.uniform(0.0, 0.01))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        told = [int(line) for line in (heard + stream.read()).splitlines()]
    acknowledged = told[-1] if told else acknowledged
    with ledger() as after:
        numbers = [entry.round for entry in after.entries]
    assert numbers == list(range(1, len(numbers) + 1)), "entries are missing"
    assert max(acknowledged, on_disk) <= len(numbers) <= max(acknowledged, on_disk) + 1, (acknowledged, len(numbers))
    on_disk = len(numbers)
print("acknowledged", acknowledged)
"""


def test_no_acknowledged_charge_is_lost_by_a_killed_process(path: Path) -> None:
    """It may be killed at any moment."""
    run = subprocess.run([sys.executable, "-c", KILLS, str(path), "1"], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout.removeprefix("acknowledged ")) > 30
