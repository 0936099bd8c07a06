"""The statement of a ledger: its budget, the epsilon that was spent, and the part of each run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from ..budget import Budget, View
from ..errors import StorageError
from .entries import Account, Entry
from .hash_chain import WHICH, empty, read_lines
from .ledger import Kind, check_format, read_budget, read_entries

VIEWS: tuple[View, ...] = ("server", "released")


@dataclass(frozen=True)
class Reading:
    """The content of a ledger of any kind. A device's ledger has no budget; only a run's ledger has a plan."""

    kind: Kind
    budget: Budget | None
    plan: str | None
    entries: tuple[Entry, ...]
    head: str


def read_ledger(path: Path) -> Reading:
    """Return the content of a ledger of any kind, without its lock: another process may hold it.

    Raises:
        StateError: the file is damaged (the line is named), or not a ledger.
        StorageError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise StorageError(f"cannot read {path}: {(fault.strerror or 'failed').lower()}", WHICH) from fault
    if b'"hash"' not in content:  # a damaged ledger still has it on some line
        raise empty(path)
    lines = read_lines(path, content)
    if not lines.bodies:
        raise empty(path)
    header = lines.bodies[0]
    kind = header.get("kind", "run")
    if kind not in get_args(Kind):
        raise empty(path)
    if kind != "device":
        check_format(path, header)
    budget = None if kind == "device" else read_budget(path, header)
    entries = tuple(read_entries(path, lines.bodies))
    return Reading(kind, budget, header.get("plan"), entries, lines.heads[-1])


@dataclass(frozen=True)
class Share:
    """One run's part of a ledger; `plan` is the digest of its plan."""

    plan: str
    run: str
    entries: int
    clients: int


@dataclass(frozen=True)
class Statement:
    """The totals of a ledger. `spent` is the largest epsilon of a client in each view, None if it is infinite.

    A device's ledger has one view, `charged`: for each round, the view that its plan's budget limits. `most` is the
    largest number of releases of a client.
    """

    kind: Kind
    budget: Budget
    spent: dict[str, float | None]
    entries: int
    clients: int
    most: int
    shares: tuple[Share, ...]
    head: str

    def to_json(self) -> dict[str, Any]:
        """The statement as plain values."""
        return asdict(self)


def make_statement(reading: Reading, terms: Budget) -> Statement:
    """Return the statement of a ledger; the budget of a device's ledger is its owner's `terms`."""
    budget = reading.budget or terms
    account = Account(budget, reading.entries)
    views: dict[str, View] = {"charged": budget.view} if reading.kind == "device" else {view: view for view in VIEWS}
    counts = Counter(client for entry in reading.entries for client in entry.clients)
    return Statement(
        kind=reading.kind,
        budget=budget,
        spent={name: _finite(account.spent(view)) for name, view in views.items()},
        entries=len(reading.entries),
        clients=len(counts),
        most=max(counts.values(), default=0),
        shares=_shares(reading),
        head=reading.head,
    )


def _finite(epsilon: float) -> float | None:
    return epsilon if math.isfinite(epsilon) else None


def _shares(reading: Reading) -> tuple[Share, ...]:
    runs: dict[tuple[str, str], list[Entry]] = {}
    for entry in reading.entries:
        origin = (entry.origin.plan, entry.origin.run) if entry.origin else (reading.plan or "", "")
        runs.setdefault(origin, []).append(entry)
    return tuple(
        Share(plan, run, len(entries), len({client for entry in entries for client in entry.clients}))
        for (plan, run), entries in runs.items()
    )
