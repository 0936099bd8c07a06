"""The ledger: an append-only, fsynced, hash-chained list of what was released, which refuses past its budget.

One line of JSON an entry; the first states the budget. Each line carries the SHA-256 of the line before it and
of itself. A line is on disk before the sum it pays for is opened, so a crash may waste budget, never overspend.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from .accounting import FINE, Spending, rdp_epsilon, spent
from .budget import Budget, View
from .errors import BudgetError, StateError
from .events import Event, from_json, to_json
from .files import storage, sync_folder, write_all

SLACK = 1e-9
"""Relative rounding error allowed when a figure is compared with the budget."""


@dataclass(frozen=True)
class Entry:
    """One release: who was in it, and what it costs each of them in either view.

    `release` names the randomness used: the same name means the very same release, which is paid for once.
    """

    round: int
    release: str
    clients: tuple[int, ...]
    server: Event
    released: Event

    def event(self, view: View) -> Event:
        """What this release costs in one view."""
        return self.server if view == "server" else self.released


class Ledger:
    """The ledger in the file `path`, held under an exclusive lock until closed: two processes cannot spend at once.

    Raises:
        StateError: the file is in use, damaged (the line is named), or states another budget.
    """

    def __init__(self, path: Path, budget: Budget, plan_digest: str) -> None:
        self.path, self.budget = path, budget
        self._entries: list[Entry] = []
        self._counts: dict[View, dict[int, Counter[Event]]] = {"server": {}, "released": {}}
        with storage(path):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._lock()
            self._read({"budget": budget.to_json(), "plan": plan_digest})
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._file)
        self._file = -1  # so that nothing can be spent into a file that took over its number

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries, oldest first."""
        return tuple(self._entries)

    @property
    def head(self) -> str:
        """SHA-256 of the last line: a checkpoint that holds it can tell a ledger that lost lines."""
        return self._heads[-1]

    def knows(self, head: str) -> bool:
        """Whether `head` was the head of this ledger at some time."""
        return head in self._heads[1:]

    def participations(self, besides: str = "") -> Counter[int]:
        """How many releases each client was in, apart from the one named `besides`: it may be made once more."""
        return Counter(client for entry in self._entries if entry.release != besides for client in entry.clients)

    def spent(self, view: View) -> float:
        """The epsilon of the client that lost most so far, in one view."""
        return max((self._price(s) for s in self._spendings(view)), default=0.0)

    def audit(self, view: View) -> float:
        """The Renyi bound beside `spent`."""
        return max((rdp_epsilon(s, self.budget.delta) for s in self._spendings(view)), default=0.0)

    def spend(self, entry: Entry) -> None:
        """Charge one release; when this returns, the charge is on disk. A release already charged is free.

        Raises:
            BudgetError: the budget does not cover it; nothing was charged.
            ValueError: the entry names a client twice.
            StorageError: it could not be written; nothing was charged.
        """
        _check_clients(entry)
        if any(old == entry for old in self._entries):
            return
        after = self._epsilon_after(entry)
        limit = self.budget.epsilon
        if limit is not None and after > limit * (1 + SLACK):
            raise BudgetError(
                f"round {entry.round} would bring epsilon to {after:.4g}, the budget is {limit:g}",
                "stop here, or plan fewer rounds, more noise or a larger privacy.epsilon from the start",
            )
        self._append(_entry_to_json(entry))
        self._take(entry)

    def _epsilon_after(self, entry: Entry) -> float:
        view = self.budget.view
        counts = self._counts[view]
        event = entry.event(view)
        spendings = {_spending(counts.get(client, Counter()) + Counter([event])) for client in entry.clients}
        if self.budget.epsilon is None:
            return 0.0
        return max((self._price(s) for s in spendings), default=0.0)

    def _price(self, spending: Spending) -> float:
        """Return the epsilon of these events; one that seems above the budget is computed again, more finely."""
        delta, limit = self.budget.delta, self.budget.epsilon
        epsilon = spent(spending, delta)
        if limit is not None and math.isfinite(epsilon) and epsilon > limit:
            return min(epsilon, spent(spending, delta, FINE))
        return epsilon

    def _spendings(self, view: View) -> set[Spending]:
        return {_spending(counter) for counter in self._counts[view].values()}

    def _take(self, entry: Entry) -> None:
        self._entries.append(entry)
        for view in self._counts:
            for client in entry.clients:
                self._counts[view].setdefault(client, Counter())[entry.event(view)] += 1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(f"{self.path} is in use by another process", "wait for it to end, or stop it") from None

    def _read(self, header: dict[str, Any]) -> None:
        self._heads = ["0" * 64]
        complete, torn, _ = (text := self._content()).rpartition(b"\n")
        for number, line in enumerate(complete.split(b"\n") if torn else [], 1):
            body = self._open_line(number, line)
            if number == 1:
                self._check_header(body, header)
            else:
                self._take(self._parse(number, body))
        keep = len(complete) + len(torn)
        if keep < len(text):  # a crash tore the last line: it was never acknowledged, so nothing rests on it
            with storage(self.path):
                os.ftruncate(self._file, keep)
        if not keep:
            self._append(header)
            with storage(self.path):
                sync_folder(self.path.parent)

    def _content(self) -> bytes:
        os.lseek(self._file, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._file), "rb") as stream:
            return stream.read()

    def _open_line(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            value = cast(dict[str, Any], json.loads(line))
            claimed = value.pop("hash")
            if value.pop("previous") != self._heads[-1] or claimed != _line_hash(self._heads[-1], value):
                raise ValueError("hash")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as fault:
            raise self._damaged(number) from fault
        self._heads.append(claimed)
        return value

    def _check_header(self, found: dict[str, Any], expected: dict[str, Any]) -> None:
        if found != expected:
            raise StateError(
                f"{self.path} was opened for another plan or budget",
                "resume with the plan it was started with, or choose another --out",
            )

    def _parse(self, number: int, body: dict[str, Any]) -> Entry:
        try:
            return _entry_from_json(body)
        except (ValueError, KeyError, TypeError) as fault:
            raise self._damaged(number) from fault

    def _damaged(self, number: int) -> StateError:
        return StateError(
            f"{self.path} is damaged at line {number}",
            "restore the ledger from a copy; without it nothing more may be released from these data",
        )

    def _append(self, body: dict[str, Any]) -> None:
        previous = self._heads[-1]
        digest = _line_hash(previous, body)
        line = json.dumps({**body, "previous": previous, "hash": digest}, separators=(",", ":")) + "\n"
        end = os.lseek(self._file, 0, os.SEEK_END)
        with storage(self.path):
            try:
                write_all(self._file, line.encode())
                os.fsync(self._file)
            except BaseException:
                os.ftruncate(self._file, end)
                raise
        self._heads.append(digest)


def _line_hash(previous: str, body: dict[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def _spending(counter: Counter[Event]) -> Spending:
    return tuple(sorted(counter.items(), key=lambda item: repr(item[0])))


def _entry_to_json(entry: Entry) -> dict[str, Any]:
    return {
        "round": entry.round,
        "release": entry.release,
        "clients": list(entry.clients),
        "server": to_json(entry.server),
        "released": to_json(entry.released),
    }


def _check_clients(entry: Entry) -> None:
    if len(set(entry.clients)) != len(entry.clients):
        raise ValueError("a release names a client twice")


def _entry_from_json(value: dict[str, Any]) -> Entry:
    clients = cast(Sequence[Any], value["clients"])
    entry = Entry(
        int(value["round"]),
        str(value["release"]),
        tuple(int(client) for client in clients),
        from_json(value["server"]),
        from_json(value["released"]),
    )
    _check_clients(entry)
    return entry
