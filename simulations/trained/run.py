"""Reads a trained model with its plan, from the folder of a run or from the model's file."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...models import NoNetworkError, Objective, objective_of
from ...privacy import PlanError, StateError, read_tables
from ...privacy.ledger.statement import make_statement, read_ledger
from ...privacy.plan.toml import Tables, parse_plan
from ...server.model_file import MODEL_FILE, ModelFile, empty_network, read_model
from ...server.round_log import RoundRecord, read_records
from ...server.training import OWN_LEDGER
from ..modules import add_modules
from ..study import Study

BATCH = 1024
"""Labels that are predicted in one batch."""


@dataclass(frozen=True, eq=False)
class Finished:
    """What a run that has ended says of itself: its plan, its file, and the round that its model is from."""

    file: Path
    plan: Study
    round: int

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.file.parent

    @property
    def records(self) -> list[RoundRecord]:
        """The records of the run's rounds; empty if only the model's file is there."""
        return read_records(self.folder / "metrics.jsonl")

    @property
    def epsilon(self) -> dict[str, float | None] | None:
        """What the run's ledger says was spent, by view; an infinite epsilon is None. None without a ledger."""
        path, records = self.folder / OWN_LEDGER, self.records
        if path.exists() and (reading := read_ledger(path)).budget is not None:
            return dict(make_statement(reading, reading.budget).spent)
        return dict(records[-1].epsilon) if records else None


@dataclass(frozen=True, eq=False)
class Trained(Finished):
    """A trained network in evaluation mode, and the run that it is from."""

    network: torch.nn.Module

    @property
    def learns(self) -> Objective:
        """The objective of the network."""
        return objective_of(self.plan.model.name, self.plan.data.shape)

    def outputs(self, features: np.ndarray) -> Iterator[torch.Tensor]:
        """Yield the network's outputs [rows, ...] for features [records, *shape], batch by batch."""
        device = next(self.network.parameters()).device
        size = max(1, BATCH // (math.prod(features.shape[1:]) if self.learns.name == "next token" else 1))
        with torch.inference_mode():
            for part in torch.from_numpy(features).split(size):
                yield self.network(part.to(device)).cpu()


def read_finished(place: Path) -> Finished:
    """Return what the folder of a run, or a model's file, says of a run; no network is built and no module imported.

    Raises:
        PlanError: there is no model.
        StateError: the model's file is damaged.
    """
    file, found = _read(place)
    return Finished(file, parse_plan(found.plan, Study, f"the plan in {file}"), found.round)


def read_trained(place: Path) -> Trained:
    """Return the trained model of a run's folder, or of a model's file.

    For a network of one's own this imports its module, which the folder's plan.toml names: it runs that code.

    Raises:
        PlanError: there is no model, or this version cannot build its network.
        StateError: the model's file is damaged.
    """
    file, found = _read(place)
    plan = parse_plan(found.plan, Study, f"the plan in {file}")
    add_modules(_own_tables(file.parent / "plan.toml"))
    try:
        network = empty_network(plan)
        network.load_state_dict(found.tensors)
    except NoNetworkError as fault:
        hint = "install its package in this environment, or put its module beside the plan"
        raise PlanError(f"the network of {file} is not here: {fault.what}", hint) from None
    except (ValueError, RuntimeError) as fault:
        hint = "use the version of bract, or of the network's package, that trained it"
        raise StateError(f"the tensors of {file} do not fit the network {plan.model.name}", hint) from fault
    return Trained(file, plan, found.round, network.eval())


def _read(place: Path) -> tuple[Path, ModelFile]:
    file = place if place.is_file() else place / MODEL_FILE
    if not file.exists():
        raise _absent(place)
    return file, read_model(file)


def _own_tables(path: Path) -> Tables:
    """Return the tables of the run's own plan, which says where the network's module is; no tables without a file."""
    return read_tables(path) if path.exists() else {}


def network_of(place: Path) -> str:
    """Return the name of the network of a model, which need not be known here.

    Raises:
        PlanError, StateError: there is no model, or its file is damaged.
    """
    return str(_read(place)[1].plan.get("model", {}).get("name", "cnn"))


def _absent(place: Path) -> PlanError:
    if (place / "sweep.toml").exists():
        return PlanError(f"{place} holds a sweep, not a model", f"give one of its runs: {place}/run-001")
    if (place / "plan.toml").exists():
        hint = f"let the run end first: bract simulate --resume {place}"
        return PlanError(f"{place} holds no model yet", hint)
    what = f"{place} holds no model" if place.exists() else f"there is no run {place}"
    return PlanError(what, "give the folder of a run that has ended; `bract list` shows those in runs/")
