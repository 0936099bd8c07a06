"""Trainings on a LocalGrid for tests of the round loop, what they charged, and where a process dies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bract.privacy import Keystream, Mechanism, Plan, mechanism_of
from bract.server.training import TrainingRun
from bract.simulations.local_grid import LocalGrid
from bract.simulations.seeded import SeededEntropy

CLIENTS = 4


def training(plan: Plan, folder: Path, mechanism: Mechanism | None = None, **parts: Any) -> TrainingRun:
    """A seeded training of this plan, with what a `TrainingRun` takes besides."""
    return TrainingRun(mechanism or mechanism_of(plan), folder, **({"entropy": SeededEntropy(5)} | parts))


def grid(app: Any, clients: int = CLIENTS) -> LocalGrid:
    return LocalGrid(app, clients)


def entries(folder: Path) -> list[dict[str, Any]]:
    """The charges that are on disk."""
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()[1:]]


def charged_rounds(folder: Path) -> list[int]:
    return [entry["round"] for entry in entries(folder)]


class Crash(Exception):
    """The process dies here."""


class RoundEntropy:
    """Entropy that knows in which round it is asked."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.round = inner, 0

    def keystream(self, *purpose: str | int) -> Keystream:
        self.round = int(purpose[1]) if len(purpose) > 1 else 0
        return self.inner.keystream(*purpose)
