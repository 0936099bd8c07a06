"""A device's ledger of all uses of its data, on its disk: it refuses a round that would exceed its owner's limit.

It covers all runs of all plans of all servers, and is charged before the device takes part in a round. No message of
a server and no restart can reset it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...privacy import Entry, Event, Ledger, Plan, mechanism_of
from ...privacy.ledger.entries import DEVICE, Origin
from ...privacy.ledger.ledger import DeviceLedger
from ...privacy.storage import make_folder
from ..secure_round import BudgetSpent
from ..terms import Terms
from .step_journal import RepeatedStep

LEDGER_FILE = "spent.jsonl"

WAIT_SECONDS = 30.0
"""How long a message waits for the lock; another process of the device holds it for a second or two."""


def charged_event(plan: Plan) -> Event:
    """Return the event of a round in the view that the plan's budget limits.

    It bounds what the server can learn or, if the owner trusts the server to add the noise, what is released.
    """
    mechanism = mechanism_of(plan)
    return mechanism.event(mechanism.budget_view)


@dataclass(frozen=True)
class OwnerLedger:
    """The ledger in a device's state folder, with its owner's current terms; it is opened for each message."""

    folder: Path
    terms: Terms

    def check(self, plan: Plan, run: int, round: int) -> None:
        """Refuse a round that `charge` would refuse; nothing is charged."""
        with self._open() as ledger:
            ledger.check(_new(ledger, plan, run, round))

    def check_new_plan(self, plan: Plan, run: int) -> None:
        """Refuse a plan without entries so far if `charge` would refuse its first round; nothing is charged."""
        with self._open() as ledger:
            if not any(entry.origin and entry.origin.plan == plan.digest for entry in ledger.entries):
                ledger.check(_new(ledger, plan, run, 1))

    def charge(self, plan: Plan, run: int, round: int) -> None:
        """Charge a round of a run; when this returns, the charge is on disk.

        Raises:
            RepeatedStep: the round was charged before, so the device took part in it.
            BudgetSpent: the device took part in as many rounds, over all runs, as the plan's noise is calibrated for.
            BudgetError: the charge would exceed the owner's terms; nothing was charged.
            StateError: the ledger is damaged, or another process keeps its lock.
            StorageError: the charge could not be written; nothing was charged.
        """
        with self._open() as ledger:
            ledger.spend(_new(ledger, plan, run, round))

    @contextmanager
    def _open(self) -> Generator[Ledger]:
        make_folder(self.folder)
        with DeviceLedger(self.folder / LEDGER_FILE, self.terms.budget, WAIT_SECONDS) as ledger:
            yield ledger


def _new(ledger: Ledger, plan: Plan, run: int, round: int) -> Entry:
    """Return the entry of a new round; the digest of run, plan and round is the name of its release.

    Flower gives a run a new ID after a crash, and a server may invent IDs, so participations are counted by plan.

    Raises:
        RepeatedStep: the ledger has this release already.
        BudgetSpent: the plan has no participations left.
    """
    name = hashlib.sha256(f"bract device {run} {plan.digest} {round}".encode()).hexdigest()
    event, origin = charged_event(plan), Origin(plan.digest, str(run))
    before = [entry.release for entry in ledger.entries if entry.origin and entry.origin.plan == plan.digest]
    if name in before:
        raise RepeatedStep
    if len(before) >= plan.participations:
        raise BudgetSpent
    return Entry(round, name, (DEVICE,), event, event, origin)
