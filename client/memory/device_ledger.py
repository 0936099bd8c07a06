"""What a device's data were ever used for, on its disk: it refuses the round that would pass its owner's limit.

It counts all runs of all plans of all servers, and is charged before a round is taken part in. Nothing that a server
sends, and no restart, can make it forget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...privacy import Entry, Event, Ledger, Plan
from ...privacy.ledger.entries import DEVICE, Origin
from ...privacy.ledger.ledger import DeviceLedger
from ...privacy.storage import make_folder
from ..secure_round import BudgetSpent
from ..terms import Terms
from .step_journal import Repeated

FILE = "spent.jsonl"

WAIT_SECONDS = 30.0
"""How long a message waits for another process of the device: that one spends and lets go, within a second or two."""


def charged_event(plan: Plan) -> Event:
    """Return what a round costs at most, in the view that the plan's budget binds.

    That is what the server can learn; where the owner trusts it to add the noise, what is released.
    """
    return plan.event(plan.budget.view)


@dataclass(frozen=True)
class Spending:
    """The ledger in a device's state folder, under its owner's terms of today. It is opened anew for each message."""

    folder: Path
    terms: Terms

    def check(self, plan: Plan, run: int, round: int) -> None:
        """Refuse a round that `charge` would refuse; nothing is charged."""
        with self._open() as ledger:
            ledger.check(_new(ledger, plan, run, round))

    def welcome(self, plan: Plan, run: int) -> None:
        """Refuse a plan that is new here and whose first round `charge` would refuse; nothing is charged."""
        with self._open() as ledger:
            if not any(entry.origin and entry.origin.plan == plan.digest for entry in ledger.entries):
                ledger.check(_new(ledger, plan, run, 1))

    def charge(self, plan: Plan, run: int, round: int) -> None:
        """Charge a round of a run, once; when this returns, the charge is on disk.

        Raises:
            Repeated: it was charged before, so the device took part in it.
            BudgetSpent: the device took part in as many rounds, of all runs, as the plan's noise was sized for.
            BudgetError: it would pass what the terms allow; nothing was charged.
            StateError: the ledger is damaged, or another process keeps it.
            StorageError: it could not be written; nothing was charged.
        """
        with self._open() as ledger:
            ledger.spend(_new(ledger, plan, run, round))

    @contextmanager
    def _open(self) -> Generator[Ledger]:
        make_folder(self.folder)
        with DeviceLedger(self.folder / FILE, self.terms.budget, WAIT_SECONDS) as ledger:
            yield ledger


def _new(ledger: Ledger, plan: Plan, run: int, round: int) -> Entry:
    """Return the device's part in a round, named by the digest of run, plan and round, if it is a new one.

    Flower numbers a run anew after every crash, and a server may invent numbers: what counts is the plan alone.
    """
    name = hashlib.sha256(f"bract device {run} {plan.digest} {round}".encode()).hexdigest()
    event, origin = charged_event(plan), Origin(plan.digest, str(run))
    before = [entry.release for entry in ledger.entries if entry.origin and entry.origin.plan == plan.digest]
    if name in before:
        raise Repeated
    if len(before) >= plan.participations:
        raise BudgetSpent
    return Entry(round, name, (DEVICE,), event, event, origin)
