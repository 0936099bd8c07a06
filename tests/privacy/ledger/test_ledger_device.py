"""The ledger that a device keeps of what its data were ever used for."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bract.privacy import Budget, BudgetError, Composed, Entry, Event, Gaussian, StateError, StorageError
from bract.privacy.accounting.accountant import epsilon, spent
from bract.privacy.ledger.entries import DEVICE, Origin
from bract.privacy.ledger.ledger import DeviceLedger

DELTA = 1e-3
EVENT, OTHER = Gaussian(8.0), Gaussian(9.0)


def cost(count: int) -> float:
    return epsilon(Composed(EVENT, count), DELTA)


def limit(count: float, delta: float = DELTA) -> Budget:
    return Budget(count, delta, "record", "server")


def entry(number: int, event: Event = EVENT) -> Entry:
    return Entry(number, f"r{number}", (DEVICE,), event, event, Origin("a" * 64, "7"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spent.jsonl"


def test_all_that_was_ever_spent_counts_against_the_limit(path: Path) -> None:
    for number in (1, 2, 3):
        with DeviceLedger(path, limit(cost(3))) as ledger:
            ledger.spend(entry(number))
    with DeviceLedger(path, limit(cost(3))) as ledger:
        assert ledger.spent("server") == cost(3)
        with pytest.raises(BudgetError) as caught:
            ledger.spend(entry(4))
    said = caught.value.what
    assert f"round 4 costs epsilon {cost(1):.4g}" in said
    assert f"from {cost(3):.4g} to {cost(4):.4g}" in said
    assert f"its terms allow {cost(3):g} at delta 0.001" in said


def test_the_limit_may_change_and_stands_nowhere_in_the_file(path: Path) -> None:
    with DeviceLedger(path, limit(cost(1))) as ledger:
        ledger.spend(entry(1))
        with pytest.raises(BudgetError):
            ledger.spend(entry(2))
    with DeviceLedger(path, limit(cost(2))) as ledger:
        ledger.spend(entry(2))
    with DeviceLedger(path, limit(cost(1) / 2)) as ledger, pytest.raises(BudgetError):
        ledger.spend(entry(3, Gaussian(1e6)))
    assert json.loads(path.read_bytes().splitlines()[0])["kind"] == "device"
    assert b"epsilon" not in path.read_bytes()


def test_the_limit_holds_at_the_delta_of_the_terms(path: Path) -> None:
    with DeviceLedger(path, limit(cost(1), delta=1e-9)) as ledger, pytest.raises(BudgetError, match="delta 1e-09"):
        ledger.spend(entry(1))
    with DeviceLedger(path, limit(cost(1))) as ledger:
        ledger.spend(entry(1))


def test_rounds_of_several_plans_are_composed(path: Path) -> None:
    with DeviceLedger(path, limit(100.0)) as ledger:
        ledger.spend(entry(1))
        ledger.spend(entry(2, OTHER))
        assert ledger.spent("server") == spent(((EVENT, 1), (OTHER, 1)), DELTA)


def test_a_check_refuses_what_spending_would_and_charges_nothing(path: Path) -> None:
    with DeviceLedger(path, limit(cost(1))) as ledger:
        ledger.check(entry(1))
        before = path.read_bytes()
        ledger.spend(entry(1))
        after = path.read_bytes()
        with pytest.raises(BudgetError):
            ledger.check(entry(2))
        assert path.read_bytes() == after != before


def test_an_entry_comes_back_as_it_was_spent(path: Path) -> None:
    with DeviceLedger(path, limit(100.0)) as ledger:
        for number in (1, 2):
            ledger.spend(entry(number))
    with DeviceLedger(path, limit(100.0)) as ledger:
        assert ledger.entries == (entry(1), entry(2))


def test_only_the_owner_can_read_it(path: Path) -> None:
    with DeviceLedger(path, limit(1.0)):
        pass
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_changed_byte_anywhere_is_refused_with_its_line(path: Path) -> None:
    with DeviceLedger(path, limit(100.0)) as ledger:
        for number in (1, 2):
            ledger.spend(entry(number))
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x04]) + whole[position + 1 :])
        number = whole[:position].count(b"\n") + 1
        with pytest.raises(StateError, match=rf"is damaged at line {number}\n"):
            DeviceLedger(path, limit(100.0))


def test_a_locked_ledger_is_not_waited_for_without_end(path: Path) -> None:
    with DeviceLedger(path, limit(1.0)), pytest.raises(StateError, match="in use by another process"):
        DeviceLedger(path, limit(1.0), wait=0.2)


def test_who_waits_gets_it_when_the_other_is_done(path: Path) -> None:
    ledger = DeviceLedger(path, limit(100.0))
    free = threading.Timer(0.2, ledger.__exit__, (None, None, None))
    free.start()
    with DeviceLedger(path, limit(100.0), wait=60.0) as mine:
        mine.spend(entry(1))
    free.join()


SPENDER = """
import sys
from pathlib import Path
from bract.privacy import Budget, Entry, Gaussian
from bract.privacy.ledger.entries import DEVICE, Origin
from bract.privacy.ledger.ledger import DeviceLedger

for number in range(10):
    with DeviceLedger(Path(sys.argv[1]), Budget(None, 1e-3, "record", "server"), wait=60.0) as ledger:
        name = f"{sys.argv[2]} {number}"
        ledger.spend(Entry(number, name, (DEVICE,), Gaussian(8.0), Gaussian(8.0), Origin("p", sys.argv[2])))
"""


def test_processes_that_spend_at_once_take_turns(path: Path) -> None:
    """No charge is lost."""
    command = [sys.executable, "-c", SPENDER, str(path)]
    processes = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in "ab"]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said.decode()
    with DeviceLedger(path, limit(100.0)) as ledger:
        assert sorted(one.release for one in ledger.entries) == sorted(f"{n} {i}" for n in "ab" for i in range(10))
        assert ledger.spent("server") == cost(20)


def test_a_missing_folder_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    """It is a storage error."""
    with pytest.raises(StorageError) as caught:
        DeviceLedger(tmp_path / "none" / "spent.jsonl", limit(1.0))
    assert "state setting" in caught.value.hint
