"""What was released and what each client lost by it: the entries of a ledger, and their sums."""

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
"""The one client of a device's own ledger: itself. No client of a server's ledger has this name."""

NAME = re.compile(r"[0-9A-Za-z_.-]{1,64}")
"""What a client may be called: by the same name after every restart, of the server or of the device."""


@dataclass(frozen=True)
class Origin:
    """The run of a plan that a release is of; the plan is named by its digest.

    `population` says who is meant by the clients' names, where runs of several plans stand in one ledger.
    """

    plan: str
    run: str
    population: str = ""


@dataclass(frozen=True)
class Entry:
    """One release: who was in it, by name, and what it costs each of them in either view.

    `release` names the randomness used: the same name means the very same release, which is paid for once.
    `origin` is there where a ledger holds more than one run.
    """

    round: int
    release: str
    clients: tuple[str, ...]
    server: Event
    released: Event
    origin: Origin | None = None

    def event(self, view: View) -> Event:
        """What this release costs in one view."""
        return self.server if view == "server" else self.released


def check_clients(entry: Entry) -> None:
    """Refuse an entry that names a client twice, or by what is no name.

    Raises:
        ValueError: it does.
    """
    if len(set(entry.clients)) != len(entry.clients):
        raise ValueError("a release names a client twice")
    if entry.clients != (DEVICE,) and not all(NAME.fullmatch(client) for client in entry.clients):
        raise ValueError("a release names a client by what is no name")


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """Return the entry as plain values; that of a device names no client, and only the event that it was charged."""
    start = {"round": entry.round, "release": entry.release}
    origin = {} if entry.origin is None else {"origin": asdict(entry.origin)}
    if entry.clients == (DEVICE,):
        return start | origin | {"event": to_json(entry.server)}
    events = {"server": to_json(entry.server), "released": to_json(entry.released)}
    return start | {"clients": list(entry.clients)} | origin | events


def entry_from_json(value: dict[str, Any]) -> Entry:
    """Return the entry that `entry_to_json` wrote.

    Raises:
        ValueError, KeyError, TypeError: it is no such entry.
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
    """The sums of entries, client by client and view by view; `budget` says at which delta they are priced."""

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
        """Return the epsilon of the client that lost most so far, in one view."""
        return max((self._price(spending) for spending in self._spendings(view)), default=0.0)

    def audit(self, view: View) -> float:
        """Return the Renyi bound beside `spent`."""
        return max((rdp_epsilon(s, self.budget.delta) for s in self._spendings(view)), default=0.0)

    def after(self, entry: Entry) -> float:
        """Return what the entry would bring the client to that loses most by it, in the view the budget binds."""
        if self.budget.epsilon is None:
            return 0.0
        view = self.budget.view
        counts, event = self._counts[view], Counter([entry.event(view)])
        spendings = {_spending(counts.get(client, Counter()) + event) for client in entry.clients}
        return max((self._price(spending) for spending in spendings), default=0.0)

    def _price(self, spending: Spending) -> float:
        """Return the epsilon of these events; one that seems above the budget is computed again, more finely."""
        delta, limit = self.budget.delta, self.budget.epsilon
        epsilon = spent(spending, delta)
        if limit is not None and math.isfinite(epsilon) and epsilon > limit:
            return min(epsilon, spent(spending, delta, FINE))
        return epsilon

    def _spendings(self, view: View) -> set[Spending]:
        return {_spending(counter) for counter in self._counts[view].values()}


def _spending(counter: Counter[Event]) -> Spending:
    return tuple(sorted(counter.items(), key=lambda item: repr(item[0])))
