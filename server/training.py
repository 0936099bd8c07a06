"""What a training is made of, and what it comes to."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..privacy import BudgetError, Entropy, Ledger, Mechanism, Plan, StateError, SystemEntropy
from ..privacy.ledger.entries import Origin
from ..privacy.ledger.ledger import PopulationLedger
from ..privacy.secagg.identity import Roster
from ..privacy.storage import replace_file
from .evaluation.evaluate import Evaluate
from .round_log import RoundRecord
from .state import ServerState


class Observer(Protocol):
    """Is told how the training goes; it cannot change it."""

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Be told of the state from which the rounds go on."""
        ...

    def answered(self) -> None:
        """Be told that one more device has answered."""
        ...

    def said(self, line: str) -> None:
        """Be told something that an operator should know."""
        ...

    def finished_round(self, record: RoundRecord) -> None:
        """Be told what a round came to."""
        ...


class Silent:
    """The observer that does nothing."""

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Do nothing."""

    def answered(self) -> None:
        """Do nothing."""

    def said(self, line: str) -> None:
        """Do nothing."""

    def finished_round(self, record: RoundRecord) -> None:
        """Do nothing."""


OWN_LEDGER, SHARE = "ledger.jsonl", "shared_ledger.json"
"""Files in a run's folder: its own ledger, or a note of the one that it shares."""


@dataclass(frozen=True)
class _Share:
    """A run's part in a shared ledger: its file, and the run's own name there, for a plan may be trained twice."""

    ledger: Path
    run: str

    def to_json(self) -> bytes:
        return json.dumps({"ledger": str(self.ledger), "run": self.run}).encode()


def _read_share(path: Path) -> _Share | None:
    if not path.exists():
        return None
    try:
        noted = json.loads(path.read_text("utf-8"))
        return _Share(Path(noted["ledger"]), str(noted["run"]))
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise StateError(
            f"{path} is damaged", "restore it from a copy, or start again with another folder"
        ) from fault


@dataclass(frozen=True)
class Training:
    """A training to run: the mechanism of its plan, the folder that holds its state, and what the server adds.

    `run` is Flower's number of the run, and `roster` says which devices may take part in secure aggregation.
    `shared_ledger` is a population's ledger that the run is charged to in place of one of its own, and `population`
    says who its clients are: runs that share a ledger must say the same. `pauses` are the seconds to wait before each
    further try, in a row, of a round that came to nothing; by default there is no other.
    """

    mechanism: Mechanism
    folder: Path
    evaluate: Evaluate | None = None
    observer: Observer = field(default_factory=Silent)
    entropy: Entropy = field(default_factory=SystemEntropy)
    run: int = 1
    roster: Roster | None = None
    shared_ledger: Path | None = None
    population: str = ""
    pauses: Sequence[float] = ()

    @property
    def plan(self) -> Plan:
        """The mechanism's."""
        return self.mechanism.plan

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        share = self._share()
        return self.folder / OWN_LEDGER if share is None else share.ledger

    def open_ledger(self) -> Ledger:
        """Return the ledger that the run is charged to, held until it is closed.

        A run that shares one notes so in its folder, and is charged to it ever after.

        Raises:
            PlanError: the shared ledger is not there, or not for plans such as this.
            StateError: the ledger is in use, damaged, or not the one that the run began with.
        """
        share = self._share()
        if share is None:
            return Ledger(self.folder / OWN_LEDGER, self.mechanism.budget, self.plan.digest)
        origin = Origin(self.plan.digest, share.run, self.population)
        with ExitStack() as fault:
            ledger = fault.enter_context(PopulationLedger(share.ledger, self.mechanism.budget, origin))
            if not (self.folder / SHARE).exists():
                replace_file(self.folder / SHARE, share.to_json())
            fault.pop_all()
            return ledger

    def _share(self) -> _Share | None:
        """Return the run's part in a shared ledger: as it was noted, or a new one."""
        noted, wanted = _read_share(self.folder / SHARE), self.shared_ledger
        if wanted is None or (noted and noted.ledger == wanted.resolve()):
            return noted
        if noted or (self.folder / OWN_LEDGER).exists():
            raise StateError(
                f"the run in {self.folder} is charged to {noted.ledger if noted else 'a ledger of its own'}",
                "go on with that one, or choose another folder for a new run",
            )
        return _Share(wanted.resolve(), secrets.token_hex(16))

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's file."""
        return self.folder / "checkpoint.bract"

    @property
    def metrics(self) -> Path:
        """The file of round records."""
        return self.folder / "metrics.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What a training came to; `stopped` says why it ended before its last round, if it did.

    `epsilon` is what the ledger says was spent in each view, None where nothing bounds it.
    """

    state: ServerState
    records: tuple[RoundRecord, ...]
    epsilon: Mapping[str, float | None]
    stopped: BudgetError | None = None

    @property
    def releases(self) -> int:
        """How many rounds released something."""
        return self.state.round - sum(record.lost for record in self.records)
