"""What a device did and refused, on disk: no step of a round is done twice, a run keeps its plan and its refusal.

A device's secrets live in its node's memory, which a SuperNode writes back after the reply has left; were that lost,
a server could have the same step done again under the same keys, and two answers would lay bare what one does not.
The journal holds digests of steps, cards and plans, and no secret.
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

FILE, HEADER = "journal.jsonl", {"kind": "journal", "version": 1}
OLD_FILE = "steps.bract"
"""The journal of versions up to 0.4.1: raw digests, without a header or a checksum."""

WAIT_SECONDS = 30.0
"""How long a message waits for another process of the device: that one writes a line and lets go."""

MOST_RUNS_A_DAY = 100
"""The most runs that a device enters a day, however few their plans: each is a line on its disk."""

MOST_CARDS_A_DAY = 10_000
"""The most cards that a device shows a day: each is a line on its disk, and whoever asks for keys pays nothing."""

HINT = "free some space, or let the node write to the folder of its state setting"
REMEDY = (
    "restore it from a copy made after the device's last round; or move it away and give the device a new identity, "
    "in the rosters too, and leave spent.jsonl where it is"
)


class Repeated(Exception):
    """The step was done before."""


class Pages:
    """What the lines of a journal say; `append` adds a line where it is kept."""

    def __init__(self, append: Callable[[Mapping[str, Any]], None]) -> None:
        self.steps: set[str] = set()
        self.requests: dict[str, str] = {}
        self.cards: dict[str, str] = {}
        self.shown: Counter[int] = Counter()
        self.runs: dict[str, tuple[str, int]] = {}
        self.refused: dict[str, int] = {}
        self._append = append

    def note(self, **line: str | int) -> None:
        """Append a line; when this returns, it is where the journal is kept."""
        self._append(line)
        self.take(line)

    def take(self, line: Mapping[str, Any]) -> None:
        """Take a line in that is there.

        Raises:
            ValueError: it is none of a journal's.
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
    """Remembers steps, the cards that were shown, and the plan or the refusal of each run."""

    @abstractmethod
    def open(self) -> AbstractContextManager[Pages]:
        """Return a context: the pages, which nobody else changes meanwhile."""

    def first(self, steps: Iterable[bytes]) -> None:
        """Note the first of these steps, digests of 32 bytes, that was not noted yet, before it is done.

        Raises:
            Repeated: all of them were noted before.
        """
        with self.open() as pages:
            new = next((step.hex() for step in steps if step.hex() not in pages.steps), None)
            if new is None:
                raise Repeated
            pages.note(step=new)

    def answer(self, step: bytes, request: bytes) -> None:
        """Note a step that answers the request of this digest, before it is done: it answers no other, ever.

        Raises:
            Repeated: it was noted for another request.
        """
        with self.open() as pages:
            known = pages.requests.get(step.hex())
            if known is None:
                pages.note(answered=step.hex(), request=request.hex())
            elif known != request.hex():
                raise Repeated

    def has(self, step: bytes) -> bool:
        """Whether this step was noted."""
        with self.open() as pages:
            return step.hex() in pages.steps

    def show(self, session: bytes, card: bytes) -> None:
        """Note the digest of the card that the device shows for a session, in place of any that it showed before.

        Raises:
            Refused: too many were shown today.
        """
        with self.open() as pages:
            shown = sum(count for day, count in pages.shown.items() if day >= today())
            if shown >= MOST_CARDS_A_DAY:
                raise Refused(f"{shown} cards were shown today, a device shows no more")
            pages.note(session=session.hex(), card=card.hex(), day=today())

    def shows(self, session: bytes, card: bytes) -> bool:
        """Whether the card of this digest is the last that the device showed for the session."""
        with self.open() as pages:
            return pages.cards.get(session.hex()) == card.hex()

    def admit(self, run: int, terms: Terms) -> None:
        """Let the messages of a run in that the device has not refused.

        Raises:
            Refused: it was refused before, or it is new and too many were refused today.
        """
        with self.open() as pages:
            _admit(pages, str(run), terms)

    def enter(self, run: int, plan: str, terms: Terms) -> None:
        """Note the plan of a run, named by its digest: it is the run's only one.

        Raises:
            Refused: as `admit`, or the plan is new and too many were new today.
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
        """Whether this is the plan, named by its digest, that the run was entered with."""
        with self.open() as pages:
            return str(run) in pages.runs and pages.runs[str(run)][0] == plan

    def refuse(self, run: int) -> None:
        """Note that the device refused a run: it does so ever after."""
        with self.open() as pages:
            if str(run) not in pages.refused:
                pages.note(refused=str(run), day=today())


def today() -> int:
    """Return the number of days since 1970, by the device's clock in UTC."""
    return int(time.time() // 86400)


def _admit(pages: Pages, run: str, terms: Terms) -> None:
    if run in pages.refused:
        raise Refused(f"run {run} was refused before, which is final")
    most, refused = terms.max_refused_runs_a_day, sum(day >= today() for day in pages.refused.values())
    if run not in pages.runs and refused >= most:
        raise Refused(f"{refused} runs were refused today: these terms let no new one in after {most}")


def _check_day(pages: Pages, plan: str, terms: Terms) -> None:
    entered = [known for known, day in pages.runs.values() if day >= today()]
    if len(entered) >= MOST_RUNS_A_DAY:
        raise Refused(f"{len(entered)} runs were entered today, a device enters no more")
    if plan not in entered and len(set(entered)) >= terms.max_plans_a_day:
        raise Refused(f"{len(set(entered))} plans were offered today, these terms allow {terms.max_plans_a_day}")


class MemoryJournal(Journal):
    """A journal that lives as long as the process: for devices that are simulated in it."""

    def __init__(self) -> None:
        self.pages = Pages(lambda line: None)

    @contextmanager
    def open(self) -> Generator[Pages]:
        """Return a context: the pages."""
        yield self.pages


class DiskJournal(Journal):
    """The journal in a folder: when a method returns, what it notes is on disk. Processes of one device share it.

    Every method raises:
        StateError: the journal is damaged (the line is named), of an older version, or stays in use.
        StorageError: it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def open(self) -> Generator[Pages]:
        """Return a context: the pages, under a lock."""
        make_folder(self._folder)
        path, old = self._folder / FILE, self._folder / OLD_FILE
        if old.exists():
            raise StateError(
                f"{old} is the journal of bract 0.4, which this version does not go on with",
                "end the runs that began with it, then move the file away; leave spent.jsonl where it is",
            )
        chain = Chain(path, HEADER, WAIT_SECONDS, private=True, hint=HINT, remedy=REMEDY)
        try:
            yield _pages(path, chain)
        finally:
            chain.close()


def _pages(path: Path, chain: Chain) -> Pages:
    if chain.bodies[0] != HEADER:
        raise StateError(f"{path} is no journal of this version", "give the node a state folder of its own")
    pages = Pages(chain.append)
    for number, line in enumerate(chain.bodies[1:], 2):
        try:
            pages.take(line)
        except ValueError as fault:
            raise damaged(path, number, REMEDY) from fault
    return pages
