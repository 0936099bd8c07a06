"""The ledger: an append-only, fsynced, hash-chained list of what was released, which refuses past its budget.

The first line says what kind it is. A run's states the run's plan and budget, and is the server's. A population's
states a budget that runs of several plans share. A device's states none: its owner's terms say what may be spent,
and may change. A line is on disk before what it pays for happens, so a crash may waste budget, never overspend.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from ..budget import Budget, View
from ..errors import BudgetError, PlanError, StateError
from .entries import Account, Entry, Origin, check_clients, entry_from_json, entry_to_json
from .hash_chain import Chain, damaged

SLACK = 1e-9
"""Relative rounding error allowed when a figure is compared with the budget."""

Kind = Literal["run", "population", "device"]
DEVICE_HEADER = {"kind": "device"}

FORMAT = 2
"""That of ledgers of runs and populations. The first, of versions up to 0.4, named clients by Flower's numbers."""


class Ledger:
    """The ledger of one run in the file `path`, held under an exclusive lock until closed.

    Raises:
        StateError: the file is in use, damaged (the line is named), or states another budget.
    """

    def __init__(self, path: Path, budget: Budget, plan_digest: str) -> None:
        self.budget, self._header = budget, {"format": FORMAT, "budget": budget.to_json(), "plan": plan_digest}
        self._hold(Chain(path, self._header))

    def _hold(self, chain: Chain) -> None:
        """Take over what a chain holds; whatever is wrong with it, the lock is let go."""
        with ExitStack() as fault:
            fault.callback(chain.close)
            self.path, self._chain = chain.path, chain
            self._read_header(chain.bodies[0])
            self._entries: list[Entry] = []
            self._known: set[Entry] = set()
            self._account = Account(self.budget)
            for entry in read_entries(chain.path, chain.bodies):
                self._take(entry)
            fault.pop_all()

    def _read_header(self, header: dict[str, Any]) -> None:
        check_format(self.path, header)
        if header != self._header:
            raise StateError(
                f"{self.path} was opened for another plan or budget",
                "go on with the plan it was started with, or choose another folder for this one",
            )

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._chain.close()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries of the run, oldest first."""
        return tuple(entry for entry in self._entries if self._mine(entry))

    @property
    def head(self) -> str:
        """SHA-256 of the last line: a checkpoint that holds it can tell a ledger that lost lines."""
        return self._chain.heads[-1]

    def knows(self, head: str) -> bool:
        """Whether `head` was the head of this ledger at some time."""
        return head in self._chain.heads[1:]

    def participations(self, besides: str = "") -> Counter[str]:
        """How many releases each client was in, apart from the one named `besides`: it may be made once more."""
        return Counter(client for entry in self.entries if entry.release != besides for client in entry.clients)

    def since(self, head: str, besides: str = "") -> tuple[Entry, ...]:
        """The run's entries that came after `head` was the head, apart from the release named `besides`.

        Raises:
            ValueError: it never was.
        """
        later = self._entries[self._chain.heads.index(head, 1) - 1 :]
        return tuple(entry for entry in later if self._mine(entry) and entry.release != besides)

    def spent(self, view: View) -> float:
        """The epsilon of the client that lost most so far, in one view."""
        return self._account.spent(view)

    def audit(self, view: View) -> float:
        """The Renyi bound beside `spent`."""
        return self._account.audit(view)

    def spend(self, entry: Entry) -> None:
        """Charge one release; when this returns, the charge is on disk. A release already charged is free.

        Raises:
            BudgetError: the budget does not cover it; nothing was charged.
            ValueError: the entry names a client twice, or by what is no name.
            StorageError: it could not be written; nothing was charged.
        """
        check_clients(entry)
        entry = self._stamped(entry)
        if entry not in self._known:
            self.check(entry)
            self._chain.append(entry_to_json(entry))
            self._take(entry)

    def check(self, entry: Entry) -> None:
        """Refuse one release more that the budget does not cover; nothing is charged.

        Raises:
            BudgetError: it does not.
        """
        after, limit = self._account.after(entry), self.budget.epsilon
        if limit is not None and not after <= limit * (1 + SLACK):
            raise self._refusal(entry, after, limit)

    def _refusal(self, entry: Entry, after: float, limit: float) -> BudgetError:
        return BudgetError(
            f"round {entry.round} would bring epsilon to {after:.4g}, the budget is {limit:g}",
            "stop here, or plan fewer rounds, more noise or a larger privacy.epsilon from the start",
        )

    def _stamped(self, entry: Entry) -> Entry:
        return entry

    def _mine(self, entry: Entry) -> bool:
        return True

    def _take(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._known.add(entry)
        self._account.take(entry)


class PopulationLedger(Ledger):
    """A population's ledger, as one run uses it that shares it with others: of this plan's budget and this `origin`.

    Entries and participations are the run's own. What was spent, and what may be, counts all runs. While a run holds
    it, no other can.

    Raises:
        PlanError: there is no such ledger, or it is not for plans such as this.
        StateError: the file is in use, damaged (the line is named), or no population's.
    """

    def __init__(self, path: Path, plan: Budget, origin: Origin) -> None:
        if not path.exists():
            raise PlanError(
                f"there is no ledger {path}",
                f"make it: bract ledger new {path} --epsilon 6 --delta {plan.delta:g} --unit {plan.unit}"
                f" --view {plan.view}",
            )
        self.budget, self._origin = plan, origin
        self._hold(Chain(path, None))

    def _read_header(self, header: dict[str, Any]) -> None:
        """Take the budget that the file states, if it is of the same unit, view, delta and relation as the plan's."""
        if header.get("kind") != "population":
            raise StateError(f"{self.path} is no population's ledger", "make one with bract ledger new")
        check_format(self.path, header)
        plan, self.budget = self.budget, read_budget(self.path, header)
        for name in ("unit", "view", "delta", "relation"):
            if getattr(plan, name) != getattr(self.budget, name):
                raise PlanError(
                    f"the ledger {self.path} has {name} {getattr(self.budget, name)}, the plan {getattr(plan, name)}",
                    "share a ledger among plans of the same unit, delta and place of noise only",
                )

    def _refusal(self, entry: Entry, after: float, limit: float) -> BudgetError:
        return BudgetError(
            f"round {entry.round} would bring the population's epsilon to {after:.4g}, its budget is {limit:g}",
            "stop here: the plans that share the ledger have used its budget up",
        )

    def _stamped(self, entry: Entry) -> Entry:
        return replace(entry, origin=self._origin)

    def _mine(self, entry: Entry) -> bool:
        return entry.origin == self._origin

    def _take(self, entry: Entry) -> None:
        if entry.origin is None or entry.origin.population != self._origin.population:
            raise PlanError(
                f"the clients of this plan are not those that {self.path} counts",
                "give all plans that share a ledger the same data table, or make a ledger for this one",
            )
        super()._take(entry)


class DeviceLedger(Ledger):
    """A device's ledger of what its data were ever used for, in a file that only its owner can read.

    `limit` is what its owner allows today, for all that was ever spent; it stands in no ledger. Another process that
    has the file is waited for, up to `wait` seconds.

    Raises:
        StateError: the file stays in use, is damaged (the line is named), or is no device's.
    """

    def __init__(self, path: Path, limit: Budget, wait: float = 0.0) -> None:
        hint = "free some space, or let the node write to the folder of its state setting"
        self.budget = limit
        self._hold(Chain(path, DEVICE_HEADER, wait, private=True, hint=hint))

    def _read_header(self, header: dict[str, Any]) -> None:
        if header != DEVICE_HEADER:
            raise StateError(f"{self.path} is no device's ledger", "give the node a state folder of its own")

    def _refusal(self, entry: Entry, after: float, limit: float) -> BudgetError:
        alone, so_far = Account(self.budget).after(entry), self.spent(self.budget.view)
        return BudgetError(
            f"round {entry.round} costs epsilon {alone:.4g} and would bring what was ever spent on this device from"
            f" {so_far:.4g} to {after:.4g}, its terms allow {limit:g} at delta {self.budget.delta:g}",
            "nothing was sent; the device's owner may raise max_epsilon in its terms",
        )


def check_format(path: Path, header: dict[str, Any]) -> None:
    """Refuse a ledger that names clients in another way than this version does.

    Raises:
        StateError: it does.
    """
    if header.get("format") != FORMAT:
        raise StateError(
            f"{path} is a ledger of bract 0.4 or older, whose clients are numbers that change at every restart",
            "go on with the version that wrote it, or start anew in another folder with the budget that it leaves",
        )


def read_budget(path: Path, header: dict[str, Any]) -> Budget:
    """Return the budget that a header states."""
    try:
        return Budget(**header["budget"])
    except (KeyError, TypeError) as fault:
        raise damaged(path, 1) from fault


def read_entries(path: Path, bodies: Sequence[dict[str, Any]]) -> list[Entry]:
    """Return the entries that follow the header in a ledger's lines."""
    entries: list[Entry] = []
    for number, body in enumerate(bodies[1:], 2):
        try:
            entries.append(entry_from_json(body))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise damaged(path, number) from fault
    return entries


def new_population(path: Path, budget: Budget) -> None:
    """Make the ledger of a population with this budget.

    Raises:
        PlanError: there is a file of this name already, or this is no budget.
    """
    epsilon = budget.epsilon or 0.0
    if not (0 < epsilon < math.inf and 0 < budget.delta < 1):
        raise PlanError(
            f"epsilon {epsilon:g} at delta {budget.delta:g} is no budget",
            "give an epsilon above 0 and a delta between 0 and 1",
        )
    if path.exists():
        raise PlanError(f"{path} is there already", "choose another name; a budget once stated cannot be changed")
    Chain(path, {"format": FORMAT, "kind": "population", "budget": budget.to_json()}).close()
