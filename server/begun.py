"""Whom a round was offered to, on disk before it is: what a crash in the midst of a round would leave uncounted.

A device charges itself before it answers, the server before it opens the sum. A server that is cut off in between
would know nothing of the round, and would count fewer participations than the devices do.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..privacy import Entry, Ledger, Plan, StateError
from ..privacy.ledger.entries import NAME
from ..privacy.storage import replace_file, storage
from .training import Training

FILE = "begun.json"


@dataclass(frozen=True)
class Begun:
    """A round under way, the clients of its cohort by name, and the head of the ledger when it began."""

    round: int
    clients: tuple[str, ...]
    head: str


def note_begun(training: Training, begun: Begun) -> None:
    """Note a round; when this returns, the note is on disk. A simulation repeats its rounds, and needs none."""
    if _counted(training.plan):
        replace_file(training.folder / FILE, json.dumps(asdict(begun)).encode())


def forget_begun(training: Training) -> None:
    """Drop the note of a round in which nobody took part."""
    with storage(training.folder / FILE):
        (training.folder / FILE).unlink(missing_ok=True)


def settle_begun(training: Training, ledger: Ledger) -> Begun | None:
    """Charge the round that a crash cut off before it was charged, and return it, if there is one.

    Any device of its cohort may have taken part, so each of them is charged as for a lost round. The round is then
    made again, by devices that count it anew.

    Raises:
        BudgetError: the budget does not cover it; nothing was charged.
        StateError: the note is damaged, or the ledger is older than it.
    """
    plan, path = training.plan, training.folder / FILE
    begun = _read(path) if _counted(plan) and path.exists() else None
    if begun is None:
        return None
    if not ledger.knows(begun.head):
        raise StateError(
            f"{ledger.path} has lost entries that {path} knows of",
            "restore the ledger from a copy; without it nothing more may be released from these data",
        )
    if ledger.since(begun.head):
        return None
    name = training.entropy.keystream("lost", begun.round, begun.head).bytes(16).hex()
    ledger.spend(
        Entry(begun.round, name, begun.clients, training.mechanism.server_event, training.mechanism.round_event)
    )
    return begun


def _counted(plan: Plan) -> bool:
    """Return whether devices count on their own disks: those of a deployment, whose plan has the id of a study."""
    return plan.study.id is not None


def _read(path: Path) -> Begun:
    try:
        noted = json.loads(path.read_bytes())
        begun = Begun(int(noted["round"]), tuple(map(str, noted["clients"])), str(noted["head"]))
        if len(set(begun.clients)) < len(begun.clients) or not all(map(NAME.fullmatch, begun.clients)):
            raise ValueError("not the names of a cohort")
        return begun
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise StateError(
            f"{path} is damaged", "restore it from a copy, or start again with another folder"
        ) from fault
