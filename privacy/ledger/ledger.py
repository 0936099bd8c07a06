"""The ledger: an append-only, fsynced hash chain of all releases, which refuses what exceeds its budget.

The first line gives the kind. The ledger of a run belongs to the server and states the run's plan and budget. The
ledger of a population states a budget that runs of several plans share. The ledger of a device states no budget: its
owner's terms limit it, and may change. A charge is on disk before its release, so a crash may waste budget but never
overspends it.
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
"""The relative rounding error that a comparison with the budget allows."""

Kind = Literal["run", "population", "device"]
DEVICE_HEADER = {"kind": "device"}

FORMAT = 2
"""The format of run and population ledgers. Format 1, up to version 0.4, identified clients by Flower's node IDs."""


class Ledger:
    """The ledger of one run in the file `path`, under an exclusive lock until it is closed.

    Raises:
        StateError: the file is in use, damaged (the line is named), or states another budget.
    """

    def __init__(self, path: Path, budget: Budget, plan_digest: str) -> None:
        self.budget, self._header = budget, {"format": FORMAT, "budget": budget.to_json(), "plan": plan_digest}
        self._hold(Chain(path, self._header))

    def _hold(self, chain: Chain) -> None:
        """Read all entries of a chain; on any error, close it and release its lock."""
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
        """The SHA-256 of the last line. A checkpoint stores it to detect a ledger that lost lines."""
        return self._chain.heads[-1]

    def knows(self, head: str) -> bool:
        """Whether `head` is the hash of some line of this ledger."""
        return head in self._chain.heads[1:]

    def participations(self, without: str = "") -> Counter[str]:
        """The number of releases of each client, without the release `without`, which may be repeated."""
        return Counter(client for entry in self.entries if entry.release != without for client in entry.clients)

    def since(self, head: str, without: str = "") -> tuple[Entry, ...]:
        """The run's entries after the line with the hash `head`, without the release `without`.

        Raises:
            ValueError: no line has this hash.
        """
        later = self._entries[self._chain.heads.index(head, 1) - 1 :]
        return tuple(entry for entry in later if self._mine(entry) and entry.release != without)

    def spent(self, view: View) -> float:
        """The largest epsilon that a client has spent so far, in one view."""
        return self._account.spent(view)

    def audit(self, view: View) -> float:
        """The Renyi bound on the figure of `spent`."""
        return self._account.audit(view)

    def spend(self, entry: Entry) -> None:
        """Charge one release; when this returns, the charge is on disk. A release is charged only once.

        Raises:
            BudgetError: the release would exceed the budget; nothing was charged.
            ValueError: a client's name occurs twice or is not valid.
            StorageError: the charge could not be written; nothing was charged.
        """
        check_clients(entry)
        entry = self._stamped(entry)
        if entry not in self._known:
            self.check(entry)
            self._chain.append(entry_to_json(entry))
            self._take(entry)

    def check(self, entry: Entry) -> None:
        """Check that the budget covers one more release; nothing is charged.

        Raises:
            BudgetError: the release would exceed the budget.
        """
        after = self._account.after(entry)
        if not self.budget.covers(after, SLACK):
            raise self._refusal(entry, after, self.budget.epsilon or 0.0)

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
    """The ledger of a population, opened by the run `origin` with its plan's budget; several runs share the ledger.

    `entries` and `participations` cover this run only. The epsilon that was spent and the budget cover all runs. Only
    one run can hold the ledger at a time.

    Raises:
        PlanError: the ledger does not exist, or does not fit this plan.
        StateError: the file is in use, damaged (the line is named), or not a population's ledger.
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
        """Use the budget in the header, if its unit, view, delta and relation are those in the plan."""
        if header.get("kind") != "population":
            raise StateError(f"{self.path} is not a population's ledger", "make one with bract ledger new")
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
                f"{self.path} counts other clients than this plan has",
                "give all plans that share a ledger the same data table, or make a ledger for this one",
            )
        super()._take(entry)


class DeviceLedger(Ledger):
    """A device's ledger of all uses of its data, in a file that only its owner can read.

    `limit` is the owner's current limit on the total; it is not stored in the ledger. If another process has the
    file, this one waits up to `wait` seconds.

    Raises:
        StateError: the file stays in use, is damaged (the line is named), or is not a device's ledger.
    """

    def __init__(self, path: Path, limit: Budget, wait: float = 0.0) -> None:
        hint = "free some space, or let the node write to the folder of its state setting"
        self.budget = limit
        self._hold(Chain(path, DEVICE_HEADER, wait, private=True, hint=hint))

    def _read_header(self, header: dict[str, Any]) -> None:
        if header != DEVICE_HEADER:
            raise StateError(f"{self.path} is not a device's ledger", "give the node a state folder of its own")

    def _refusal(self, entry: Entry, after: float, limit: float) -> BudgetError:
        alone, so_far = Account(self.budget).after(entry), self.spent(self.budget.view)
        return BudgetError(
            f"round {entry.round} costs epsilon {alone:.4g} and would raise the total spent on this device from"
            f" {so_far:.4g} to {after:.4g}, its terms allow {limit:g} at delta {self.budget.delta:g}",
            "nothing was sent; the device's owner may raise max_epsilon in its terms",
        )


def check_format(path: Path, header: dict[str, Any]) -> None:
    """Refuse a ledger of another format, in which clients have other names.

    Raises:
        StateError: the header states another format, or none.
    """
    if header.get("format") != FORMAT:
        raise StateError(
            f"{path} is a ledger of bract 0.4 or older, in which clients have numbers that change at every restart",
            "go on with the version that wrote it, or start in another folder with the remaining budget",
        )


def read_budget(path: Path, header: dict[str, Any]) -> Budget:
    """Return the budget in a ledger's header.

    Raises:
        StateError: the header holds no budget.
    """
    try:
        return Budget(**header["budget"])
    except (KeyError, TypeError) as fault:
        raise damaged(path, 1) from fault


def read_entries(path: Path, bodies: Sequence[dict[str, Any]]) -> list[Entry]:
    """Return the entries after the header in a ledger's lines.

    Raises:
        StateError: a line holds no entry; the error names it.
    """
    entries: list[Entry] = []
    for number, body in enumerate(bodies[1:], 2):
        try:
            entries.append(entry_from_json(body))
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise damaged(path, number) from fault
    return entries


def new_population(path: Path, budget: Budget) -> None:
    """Create the ledger of a population with this budget.

    Raises:
        PlanError: the file exists already, or the budget is not valid.
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
