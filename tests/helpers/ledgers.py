"""Small ledgers for tests: one event, its cost, and entries of it."""

from __future__ import annotations

from pathlib import Path

from bract.privacy import Budget, Composed, Entry, Event, Gaussian, Ledger, PoissonSampled, Unbounded
from bract.privacy.accounting.accountant import epsilon

DELTA, DIGEST = 1e-5, "d" * 64
EVENT = PoissonSampled(0.5, Gaussian(4.0))
FREE = Budget(None, DELTA, "record", "released")


def cost(count: int, event: Event = EVENT) -> float:
    return epsilon(Composed(event, count), DELTA)


def budget(count: int) -> Budget:
    """What `count` events cost and a little more, yet less than one event more."""
    return Budget(cost(count) * 1.0001, DELTA, "record", "released")


def entry(number: int, *clients: int, release: str | None = None, event: Event = EVENT) -> Entry:
    return Entry(number, release or f"r{number}", tuple(map(str, clients or (1,))), Unbounded(), event)


def write_three(path: Path) -> bytes:
    """Write a ledger of three entries, and return what is in the file."""
    with Ledger(path, FREE, DIGEST) as ledger:
        for number in (1, 2, 3):
            ledger.spend(entry(number, number, 7))
    return path.read_bytes()


def opened(path: Path) -> tuple[Entry, ...]:
    with Ledger(path, FREE, DIGEST) as ledger:
        return ledger.entries
