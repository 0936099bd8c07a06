"""A note on disk of the round that has begun and its cohort, so that a crash leaves no participation uncounted.

A device charges a round before it answers, the server before it opens the sum. Without the note, a server that
crashes in between would not know of the round, and would count fewer participations than the devices.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..privacy import Entry, Ledger, Plan, StateError
from ..privacy.ledger.entries import NAME
from ..privacy.storage import replace_file, storage
from .training import TrainingRun

STARTED_ROUND_FILE = "begun.json"


@dataclass(frozen=True)
class StartedRound:
    """A round that has begun, the names of the clients in its cohort, and the head of the ledger at its start."""

    round: int
    clients: tuple[str, ...]
    head: str


def record_start(training: TrainingRun, started: StartedRound) -> None:
    """Write the note of a round; when this returns, it is on disk. A simulation needs none, because it repeats
    rounds."""
    if _counted(training.plan):
        replace_file(training.folder / STARTED_ROUND_FILE, json.dumps(asdict(started)).encode())


def forget_start(training: TrainingRun) -> None:
    """Delete the note of a round in which nobody took part."""
    with storage(training.folder / STARTED_ROUND_FILE):
        (training.folder / STARTED_ROUND_FILE).unlink(missing_ok=True)


def settle_interrupted(training: TrainingRun, ledger: Ledger) -> StartedRound | None:
    """Charge the round that a crash interrupted before it was charged, and return it, or None if there is none.

    Every device of its cohort may have taken part, so all are charged as in a lost round. The round is then repeated,
    and devices count it once more.

    Raises:
        BudgetError: the budget does not cover the round; nothing was charged.
        StateError: the note is damaged, or the ledger is older than the note.
    """
    plan, path = training.plan, training.folder / STARTED_ROUND_FILE
    started = _read(path) if _counted(plan) and path.exists() else None
    if started is None:
        return None
    if not ledger.knows(started.head):
        raise StateError(
            f"{ledger.path} has lost entries that {path} knows of",
            "restore the ledger from a copy; without it nothing more may be released from these data",
        )
    if ledger.since(started.head):
        return None
    name = training.entropy.keystream("lost", started.round, started.head).bytes(16).hex()
    ledger.spend(
        Entry(started.round, name, started.clients, training.mechanism.server_event, training.mechanism.round_event)
    )
    return started


def _counted(plan: Plan) -> bool:
    """Return whether devices count on their own disks: in a deployment, the plan has a study ID."""
    return plan.study.id is not None


def _read(path: Path) -> StartedRound:
    try:
        noted = json.loads(path.read_bytes())
        started = StartedRound(int(noted["round"]), tuple(map(str, noted["clients"])), str(noted["head"]))
        if len(set(started.clients)) < len(started.clients) or not all(map(NAME.fullmatch, started.clients)):
            raise ValueError("not the names of a cohort")
        return started
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise StateError(
            f"{path} is damaged", "restore it from a copy, or start again with another folder"
        ) from fault
