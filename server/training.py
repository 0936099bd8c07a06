"""What a training is made of, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ..privacy import BudgetError, Entropy, Ledger, Plan, SystemEntropy
from ..privacy.secagg.identity import Roster
from .evaluate import Evaluate
from .metrics import RoundRecord
from .release import RELEASES, Releaser
from .state import ServerState


class Observer(Protocol):
    """Is told how the training goes; it cannot change it."""

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Be told of the state from which the rounds go on."""
        ...

    def answered(self) -> None:
        """Be told that one more device has answered."""
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

    def finished_round(self, record: RoundRecord) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Training:
    """A training to run: a resolved plan, the folder that holds its state, and what the server brings to it.

    `run` is Flower's number of the run, and `roster` says which devices may take part in secure aggregation.
    """

    plan: Plan
    folder: Path
    evaluate: Evaluate | None = None
    observer: Observer = field(default_factory=Silent)
    entropy: Entropy = field(default_factory=SystemEntropy)
    releases: Mapping[tuple[str, str], Releaser] = field(default_factory=lambda: RELEASES)
    run: int = 1
    roster: Roster | None = None

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.folder / "ledger.jsonl"

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
