"""What a ledger comes to: its budget, what was spent, and by which plans."""

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
    """A ledger of any kind as it lies on disk; a device's states no budget, and only a run's a plan."""

    kind: Kind
    budget: Budget | None
    plan: str | None
    entries: tuple[Entry, ...]
    head: str


def read_ledger(path: Path) -> Reading:
    """Return what is in a ledger of any kind, without its lock: another process may be spending into it.

    Raises:
        StateError: it is damaged (the line is named), or no ledger.
        StorageError: it cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise StorageError(f"cannot read {path}: {(fault.strerror or 'failed').lower()}", WHICH) from fault
    if b'"hash"' not in content:  # damage leaves it on some line: this is a file of another kind
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
    """One run's share of a ledger; the plan is named by its digest."""

    plan: str
    run: str
    entries: int
    clients: int


@dataclass(frozen=True)
class Statement:
    """A ledger's sums. `spent` is what the client lost that lost most, in each view, None where nothing bounds it.

    A device's has one view, `charged`: each round's is that which its plan's budget binds. `most` is the largest
    number of releases that a client was in.
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
    """Return what a ledger comes to; a device's is priced, and limited, as its owner's `terms` say."""
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
