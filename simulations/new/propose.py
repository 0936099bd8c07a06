"""A complete plan for some data: [data] follows from a look at them, the rest from rules."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...privacy import Plan
from ...privacy.plan.schema import Data
from ...privacy.planning.forecast import Signal, signal
from ..datasets import load
from ..population import make_population
from ..study import Study, anchor, make_study
from .look import Look, look_at
from .rules import EPSILON, Facts, training_of

IID, FEW_CLIENTS, HOLDOUT = 10, 10, 0.2
"""Records without owners are split over IID clients. With fewer than FEW_CLIENTS owners, each holds out HOLDOUT of
its records; else HOLDOUT of the owners are held out."""

MASKED = 40
"""The most clients whose masks a simulation computes. Without masks the sums are the same."""

Tables = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Proposal:
    """The tables of a plan that runs, what was noticed, and the study and forecast that follow from it.

    `statistics` says whether a constant was computed from the data, and is therefore not public.
    """

    tables: Tables
    notices: tuple[str, ...]
    statistics: bool
    study: Study
    forecast: Signal


def propose(
    place: str,
    plan: Path,
    label: str | None = None,
    client: str | None = None,
    epsilon: float = EPSILON,
    noise: str = "central",
    public: bool = False,
) -> Proposal:
    """Return a plan for the data at `place`, to be written to the file `plan`, where a relative path starts.

    Raises:
        DataError: there are no such data, or no plan can describe them.
        PlanError: no plan for them is accepted.
    """
    look = look_at(place, label, client, public)
    facts = _facts(look, plan, Facts((1,), 1, 1, 1, noise=noise, epsilon=epsilon))
    tables = _tables(look, facts)
    del tables["data"]["records"]
    population = make_population(_study(tables, plan), torch.device("cpu"))
    facts = replace(facts, records=len(population.records))
    tables = _tables(look, facts)
    study = _study(tables, plan)
    return Proposal(
        tables, tuple(look.notices), look.statistics, study, signal(Plan.model_validate(_facts_of(study)))
    )


def _facts(look: Look, plan: Path, asked: Facts) -> Facts:
    """Return the facts of the data, with all records that may train, and choose their split."""
    if "path" in look.data:
        look.data["path"] = _relative(Path(look.data["path"]), plan)
    place = {"path": str(plan.parent / look.data["path"])} if "path" in look.data else {}
    data = Data.model_validate(look.data | place)
    source = load(data)
    owners = None if source.train.clients is None else len(np.unique(source.train.clients))
    most = max(1, len(source.train))
    look.data |= {"split": "iid" if owners is None else "natural"}
    if owners is None:
        clients = min(IID, max(1, most // 2))
    elif source.test is None and owners >= FEW_CLIENTS:
        clients = owners - max(1, round(HOLDOUT * owners))
    else:
        clients = owners
        look.data |= {"holdout_unit": "record"} if source.test is None else {}
    if source.test is None:
        look.data["holdout"] = HOLDOUT
    return replace(
        asked,
        shape=data.shape,
        classes=data.classes,
        records=most,
        clients=clients,
        text=data.tokens is not None,
    )


def _relative(path: Path, plan: Path) -> str:
    return os.path.relpath(path.resolve(), plan.resolve().parent)


def _tables(look: Look, facts: Facts) -> Tables:
    data = look.data | {"clients": facts.clients, "records": facts.records}
    open_sums = {"simulation": {"masks": False}} if facts.noise == "distributed" and facts.clients > MASKED else {}
    return {"data": data, **training_of(facts), **open_sums}


def _study(tables: Tables, plan: Path) -> Study:
    return make_study(anchor(tables, plan, ()), str(plan))


def _facts_of(study: Study) -> dict[str, Any]:
    return study.model_dump(exclude={"simulation"}, exclude_none=True)
