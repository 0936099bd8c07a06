"""A device's journal on disk: no step of a round is repeated, and the plan or the refusal of a run is final.

A device's secrets are in its node's memory, which a SuperNode stores only after the reply was sent. If this memory is
lost, a server could ask for the same step again under the same keys, and two answers together would reveal what one
does not. The journal holds digests of steps, cards and plans, and no secrets.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from ...privacy import PlanError, StateError
from ...privacy.ledger.hash_chain import Chain, damaged
from ...privacy.storage import make_folder
from ..terms import Refused, Terms

JOURNAL_FILE, HEADER = "journal.jsonl", {"kind": "journal", "version": 1}
OLD_FILE = "steps.bract"
"""The journal of versions up to 0.4.1: raw digests, without a header or a checksum."""

WAIT_SECONDS = 30.0
"""How long a message waits for the lock; another process of the device holds it to write one line."""

MOST_RUNS_A_DAY = 100
"""The most runs that a device enters in a day: each run takes a line on its disk."""

MOST_CARDS_A_DAY = 10_000
"""The most cards that a device shows in a day: each card takes a line on its disk, and a request for keys is free."""

HINT = "free some space, or let the node write to the folder of its state setting"
REMEDY = (
    "restore it from a copy made after the device's last round; or move it away and give the device a new identity, "
    "in the rosters too, and leave spent.jsonl where it is"
)


class RepeatedStep(Exception):
    """The device did this step before."""


class JournalContent:
    """The content of a journal's lines; `append` stores a new line."""

    def __init__(self, append: Callable[[Mapping[str, Any]], None]) -> None:
        self.steps: set[str] = set()
        self.requests: dict[str, str] = {}
        self.cards: dict[str, str] = {}
        self.shown: Counter[int] = Counter()
        self.runs: dict[str, tuple[str, int]] = {}
        self.refused: dict[str, int] = {}
        self._append = append

    def note(self, **line: str | int) -> None:
        """Append a line; when this returns, the line is stored."""
        self._append(line)
        self.take(line)

    def take(self, line: Mapping[str, Any]) -> None:
        """Add the content of a stored line.

        Raises:
            ValueError: it is not a line of a journal.
        """
        match dict(line):
            case {"step": str(step), **rest} if not rest:
                self.steps.add(step)
            case {"answered": str(step), "request": str(request), **rest} if not rest:
                self.requests[step] = request
            case {"session": str(session), "card": str(card), **rest} if not rest:
                self.cards[session] = card
            case {"session": str(session), "card": str(card), "day": int(day), **rest} if not rest:
                self.cards[session] = card
                self.shown[day] += 1
            case {"run": str(run), "plan": str(plan), "day": int(day), **rest} if not rest:
                self.runs[run] = plan, day
            case {"refused": str(run), "day": int(day), **rest} if not rest:
                self.refused[run] = day
            case _:
                raise ValueError("not a line of a journal")


class Journal(ABC):
    """A record of steps, of the cards that were shown, and of each run's plan or refusal."""

    @abstractmethod
    def open(self) -> AbstractContextManager[JournalContent]:
        """Return a context with the pages, under exclusive access."""

    def first(self, steps: Iterable[bytes]) -> None:
        """Record the first of these steps (digests of 32 bytes) that is not recorded yet. The device then takes this
        step.

        Raises:
            RepeatedStep: all of these steps are recorded already.
        """
        with self.open() as pages:
            new = next((step.hex() for step in steps if step.hex() not in pages.steps), None)
            if new is None:
                raise RepeatedStep
            pages.note(step=new)

    def answer(self, step: bytes, request: bytes) -> None:
        """Record that a step answers the request of this digest, before the device does it; it answers no other.

        Raises:
            RepeatedStep: the step is recorded for another request.
        """
        with self.open() as pages:
            known = pages.requests.get(step.hex())
            if known is None:
                pages.note(answered=step.hex(), request=request.hex())
            elif known != request.hex():
                raise RepeatedStep

    def has(self, step: bytes) -> bool:
        """Whether this step is recorded."""
        with self.open() as pages:
            return step.hex() in pages.steps

    def show(self, session: bytes, card: bytes) -> None:
        """Record the digest of the card that the device shows for a session; it replaces an earlier one.

        Raises:
            Refused: the device showed too many cards today.
        """
        with self.open() as pages:
            shown = sum(count for day, count in pages.shown.items() if day >= today())
            if shown >= MOST_CARDS_A_DAY:
                raise Refused(f"{shown} cards were shown today, a device shows no more")
            pages.note(session=session.hex(), card=card.hex(), day=today())

    def shows(self, session: bytes, card: bytes) -> bool:
        """Whether the card of this digest is the latest one that the device showed for the session."""
        with self.open() as pages:
            return pages.cards.get(session.hex()) == card.hex()

    def admit(self, run: int, terms: Terms) -> None:
        """Check that the device may read messages of a run.

        Raises:
            Refused: the device refused the run before, or the run is new and too many were refused today.
        """
        with self.open() as pages:
            _admit(pages, str(run), terms)

    def enter(self, run: int, plan: str, terms: Terms) -> None:
        """Record the digest of a run's only plan.

        Raises:
            Refused: `admit` refuses the run, or today's runs or plans exceed a limit.
            PlanError: the run has another plan.
        """
        with self.open() as pages:
            _admit(pages, str(run), terms)
            if str(run) not in pages.runs:
                _check_day(pages, plan, terms)
                pages.note(run=str(run), plan=plan, day=today())
            elif pages.runs[str(run)][0] != plan:
                raise PlanError("the server changed the plan within a run", "start a new run for a new plan")

    def entered(self, run: int, plan: str) -> bool:
        """Whether the device entered the run with the plan of this digest."""
        with self.open() as pages:
            return str(run) in pages.runs and pages.runs[str(run)][0] == plan

    def refuse(self, run: int) -> None:
        """Record that the device refused a run, which is final."""
        with self.open() as pages:
            if str(run) not in pages.refused:
                pages.note(refused=str(run), day=today())


def today() -> int:
    """Return the number of days since 1970-01-01, by the device's clock in UTC."""
    return int(time.time() // 86400)


def _admit(pages: JournalContent, run: str, terms: Terms) -> None:
    if run in pages.refused:
        raise Refused(f"run {run} was refused before, which is final")
    most, refused = terms.max_refused_runs_a_day, sum(day >= today() for day in pages.refused.values())
    if run not in pages.runs and refused >= most:
        raise Refused(f"{refused} runs were refused today: these terms allow no new one after {most}")


def _check_day(pages: JournalContent, plan: str, terms: Terms) -> None:
    entered = [known for known, day in pages.runs.values() if day >= today()]
    if len(entered) >= MOST_RUNS_A_DAY:
        raise Refused(f"{len(entered)} runs were entered today, a device enters no more")
    if plan not in entered and len(set(entered)) >= terms.max_plans_a_day:
        raise Refused(f"{len(set(entered))} plans were offered today, these terms allow {terms.max_plans_a_day}")


class MemoryJournal(Journal):
    """A journal in the memory of the process, for simulated devices."""

    def __init__(self) -> None:
        self.pages = JournalContent(lambda line: None)

    @contextmanager
    def open(self) -> Generator[JournalContent]:
        """Return a context with the pages."""
        yield self.pages


class DiskJournal(Journal):
    """The journal in a folder, shared by the processes of a device; a method returns once its line is on disk.

    Every method raises:
        StateError: the journal is damaged (the line is named), of an older version, or stays locked.
        StorageError: the journal cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(self) -> Generator[JournalContent]:
        """Return a context with the pages, under an exclusive lock."""
        make_folder(self._folder)
        path, old = self._folder / JOURNAL_FILE, self._folder / OLD_FILE
        if old.exists():
            raise StateError(
                f"{old} is the journal of bract 0.4, which this version cannot continue",
                "end the runs that began with it, then move the file away; leave spent.jsonl where it is",
            )
        chain = Chain(path, HEADER, WAIT_SECONDS, private=True, hint=HINT, remedy=REMEDY)
        try:
            yield _pages(path, chain)
        finally:
            chain.close()


def _pages(path: Path, chain: Chain) -> JournalContent:
    if chain.bodies[0] != HEADER:
        raise StateError(f"{path} is not a journal of this version", "give the node a state folder of its own")
    pages = JournalContent(chain.append)
    for number, line in enumerate(chain.bodies[1:], 2):
        try:
            pages.take(line)
        except ValueError as fault:
            raise damaged(path, number, REMEDY) from fault
    return pages
