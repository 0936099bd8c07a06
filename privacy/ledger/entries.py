"""The entries of a ledger, one for each release, and the epsilon of each client over several entries."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

from ..accounting.accountant import FINE, Spending, rdp_epsilon, spent
from ..accounting.events import Event, from_json, to_json
from ..budget import Budget, View

DEVICE = "this device"
"""The name of the only client in a device's own ledger. No client in a server's ledger can have this name."""

NAME = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""The form of a client's name, which stays the same after every restart of the server or the device."""


@dataclass(frozen=True)
class Origin:
    """The run that a release belongs to, and the digest of its plan.

    `population` identifies the set of clients that names refer to, in a ledger that several plans share.
    """

    plan: str
    run: str
    population: str = ""


@dataclass(frozen=True)
class Entry:
    """One release: the names of its clients, and its cost for each of them in each view.

    `release` identifies the randomness: two entries with the same name are the same release, which is charged once.
    `origin` is None if the ledger holds only one run.
    """

    round: int
    release: str
    clients: tuple[str, ...]
    server: Event
    released: Event
    origin: Origin | None = None

    def event(self, view: View) -> Event:
        """The event that this release costs in one view."""
        return self.server if view == "server" else self.released


def check_clients(entry: Entry) -> None:
    """Check that the clients of an entry are distinct and have valid names.

    Raises:
        ValueError: a name occurs twice or is not valid.
    """
    if len(set(entry.clients)) != len(entry.clients):
        raise ValueError("a release names a client twice")
    if entry.clients != (DEVICE,) and not all(NAME.fullmatch(client) for client in entry.clients):
        raise ValueError("a release names a client by an invalid name")


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Return the entry as plain values. A device's entry has no client and only the event that was charged."""
    start = {"round": entry.round, "release": entry.release}
    origin = {} if entry.origin is None else {"origin": asdict(entry.origin)}
    if entry.clients == (DEVICE,):
        return start | origin | {"event": to_json(entry.server)}
    events = {"server": to_json(entry.server), "released": to_json(entry.released)}
    return start | {"clients": list(entry.clients)} | origin | events


def entry_from_json(value: dict[str, Any]) -> Entry:
    """Return the entry that `entry_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: the value is not such an entry.
    """
    event = from_json(value["event"]) if "event" in value else None
    entry = Entry(
        int(value["round"]),
        str(value["release"]),
        (DEVICE,) if event else _names(value["clients"]),
        event or from_json(value["server"]),
        event or from_json(value["released"]),
        Origin(**{key: str(part) for key, part in value["origin"].items()}) if "origin" in value else None,
    )
    check_clients(entry)
    return entry


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in cast(list[Any], value)):
        raise TypeError("clients are a list of names")
    return tuple(cast(list[str], value))


class Account:
    """The events of each client in each view, and their epsilon at the delta of `budget`."""

    def __init__(self, budget: Budget, entries: Iterable[Entry] = ()) -> None:
        self.budget = budget
        self._counts: dict[View, dict[str, Counter[Event]]] = {"server": {}, "released": {}}
        for entry in entries:
            self.take(entry)

    def take(self, entry: Entry) -> None:
        """Add an entry."""
        for view, counts in self._counts.items():
            for client in entry.clients:
                counts.setdefault(client, Counter())[entry.event(view)] += 1

    def spent(self, view: View) -> float:
        """Return the largest epsilon that a client has spent so far, in one view."""
        return max((self._price(spending) for spending in self._spendings(view)), default=0.0)

    def audit(self, view: View) -> float:
        """Return the Renyi bound on the figure of `spent`."""
        return max((rdp_epsilon(s, self.budget.delta) for s in self._spendings(view)), default=0.0)

    def after(self, entry: Entry) -> float:
        """Return the largest epsilon of the entry's clients once it is added, in the view that the budget limits."""
        if self.budget.epsilon is None:
            return 0.0
        view = self.budget.view
        counts, event = self._counts[view], Counter([entry.event(view)])
        spendings = {_spending(counts.get(client, Counter()) + event) for client in entry.clients}
        return max((self._price(spending) for spending in spendings), default=0.0)

    def _price(self, spending: Spending) -> float:
        """Return the epsilon of these events. If it exceeds the budget, it is computed again, with more precision."""
        delta, limit = self.budget.delta, self.budget.epsilon
        epsilon = spent(spending, delta)
        if limit is not None and math.isfinite(epsilon) and epsilon > limit:
            return min(epsilon, spent(spending, delta, FINE))
        return epsilon

    def _spendings(self, view: View) -> set[Spending]:
        return {_spending(counter) for counter in self._counts[view].values()}


def _spending(counter: Counter[Event]) -> Spending:
    return tuple(sorted(counter.items(), key=lambda item: repr(item[0])))
