"""A training's input and its outcome."""

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
    """A receiver of the training's progress; it cannot change the training."""

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Receive the state before the next round, and the ledger."""
        ...

    def answered(self) -> None:
        """Receive the news that one more device answered."""
        ...

    def said(self, line: str) -> None:
        """Receive a message for the operator."""
        ...

    def finished_round(self, record: RoundRecord) -> None:
        """Receive the record of a round."""
        ...


class NullObserver:
    """An observer that does nothing."""

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Do nothing."""

    def answered(self) -> None:
        """Do nothing."""

    def said(self, line: str) -> None:
        """Do nothing."""

    def finished_round(self, record: RoundRecord) -> None:
        """Do nothing."""


OWN_LEDGER, SHARE = "ledger.jsonl", "shared_ledger.json"
"""Files in a run's folder: its own ledger, or a note of the shared one."""


@dataclass(frozen=True)
class _Share:
    """A run's part in a shared ledger: its file, and the run's own name there, because a plan may be trained
    twice."""

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
class TrainingRun:
    """A training to run: the mechanism of its plan, the folder of its state, and the server's own settings.

    `run` is Flower's run ID. `roster` lists the devices that may take part in secure aggregation. `shared_ledger` is
    a population's ledger that is charged instead of the run's own, and `population` identifies its clients: it must
    be equal in all runs that share a ledger. `pauses` are the seconds to wait after one failed
    try, after two in a row, and so on. By default it is empty, and a failed round is not tried again.
    """

    mechanism: Mechanism
    folder: Path
    evaluate: Evaluate | None = None
    observer: Observer = field(default_factory=NullObserver)
    entropy: Entropy = field(default_factory=SystemEntropy)
    run: int = 1
    roster: Roster | None = None
    shared_ledger: Path | None = None
    population: str = ""
    pauses: Sequence[float] = ()

    @property
    def plan(self) -> Plan:
        """The plan of the mechanism."""
        return self.mechanism.plan

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        share = self._share()
        return self.folder / OWN_LEDGER if share is None else share.ledger

    def open_ledger(self) -> Ledger:
        """Return the ledger that the run is charged to, locked until it is closed.

        A run with a shared ledger stores a note in its folder, and always uses this ledger.

        Raises:
            PlanError: the shared ledger does not exist, or does not fit the plan.
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
        """Return the run's part in a shared ledger, from its note or new, or None if it has its own ledger."""
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
    """The outcome of a training; `stopped` is the error that ended it before its last round, or None.

    `epsilon` is the epsilon that the ledger reports in each view, None if it is infinite.
    """

    state: ServerState
    records: tuple[RoundRecord, ...]
    epsilon: Mapping[str, float | None]
    stopped: BudgetError | None = None

    @property
    def releases(self) -> int:
        """The number of rounds that released something."""
        return self.state.round - sum(record.lost for record in self.records)
