"""The privacy cost of a search on real data: every run is a release, and their costs add up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import get_args

from ...privacy import Composed, Event, Ledger, StateError, Unbounded, View
from ...privacy.accounting.accountant import AccountingError, renyi, spent
from ..study import Study, mechanism_for
from .private_selection import Repetitions, selection_epsilon
from .request import SweepRun

SpentByView = Mapping[View, Counter[Event]]
"""For each view, the events charged to the unit with the largest cost in one run, and their counts."""

VIEWS: tuple[View, ...] = get_args(View)

UNPROTECTED = "some runs protect nothing"
TRUSTED = "the server is trusted"
MIXED = "the runs protect different units, whose costs do not add up"
WATCHING = "the server sees every run, so the costs of all runs add up"


@dataclass(frozen=True)
class Cost:
    """The epsilons of a search at `delta`, one for each view. None means no bound; `reasons` says why.

    `epsilon` covers all runs, or only the outcome of a private selection. `once` covers one run per point, as if each
    point had one seed.
    """

    runs: int
    points: int
    unit: str | None
    delta: float
    epsilon: Mapping[View, float | None]
    once: Mapping[View, float | None]
    reasons: Mapping[View, str]


def cost_of_runs(runs: Sequence[SweepRun], studies: Sequence[Study], folder: Path) -> Cost:
    """Return the total cost of all runs that began in `folder`, by their ledgers.

    In every run, each client is charged for as many rounds as the client with the most rounds. This bounds the cost
    of every client, even if the runs split the records differently. The delta is the smallest delta of the runs, and
    the unit is the one that all of them protect.
    """
    spendings = [(run, ledger_spending(studies[run.point], folder / run.folder)) for run in runs]
    begun = [(run, spending) for run, spending in spendings if spending is not None]
    repeated: dict[int, SpentByView] = {}
    for run, spending in begun:
        repeated[run.point] = _largest([repeated.get(run.point, _nothing()), spending])
    points = sorted(repeated)
    return _cost(len(begun), [studies[p] for p in points], [s for _, s in begun], [repeated[p] for p in points])


def cost_of_selection(law: Repetitions, studies: Sequence[Study]) -> Cost:
    """Return the cost of the outcome of a private selection among the studies, for any draw.

    Private selection does not protect against the server, which sees every run. `once` is the cost of one run of
    every point, for comparison.
    """
    planned = [planned_spending(study) for study in studies]
    cost = _cost(0, studies, [], planned)
    one = _curve(planned, "released")
    released = None if "released" in cost.reasons else selection_epsilon(law, one, cost.delta)
    reasons: dict[View, str] = {"server": WATCHING, **cost.reasons}
    return Cost(0, cost.points, cost.unit, cost.delta, {"server": None, "released": released}, cost.once, reasons)


def planned_spending(study: Study) -> SpentByView:
    """Return the cost of the whole study for a client that takes part as often as the plan allows."""
    mechanism = mechanism_for(study)
    events: Mapping[View, Event] = {"server": mechanism.server_event, "released": mechanism.round_event}
    return {view: Counter({events[view]: study.participations}) for view in VIEWS}


def ledger_spending(study: Study, folder: Path) -> SpentByView | None:
    """Return the cost of one run for its most charged client, by the run's ledger.

    None without a ledger: the run released nothing. An unreadable ledger counts as all planned rounds.
    """
    path = folder / "ledger.jsonl"
    if not path.exists():
        return None
    try:
        with Ledger(path, mechanism_for(study).budget, study.digest) as ledger:
            entries = ledger.entries
    except StateError:
        return planned_spending(study)
    counts: dict[View, dict[str, Counter[Event]]] = {view: {} for view in VIEWS}
    for entry in entries:
        for view, clients in counts.items():
            for client in entry.clients:
                clients.setdefault(client, Counter())[entry.event(view)] += 1
    return {view: _most(clients.values()) for view, clients in counts.items()}


def _cost(count: int, studies: Sequence[Study], all_of_them: list[SpentByView], once: list[SpentByView]) -> Cost:
    units = {study.privacy.unit for study in studies}
    reasons: dict[View, str] = {view: reason for view in VIEWS if (reason := _reason(view, units, studies))}
    delta = min((study.privacy.delta for study in studies), default=1.0)

    def priced(spendings: Sequence[SpentByView]) -> dict[View, float | None]:
        return {view: _price(spendings, view, delta, reasons) for view in VIEWS}

    unit = units.pop() if len(units) == 1 else None
    return Cost(count, len(studies), unit, delta, priced(all_of_them), priced(once), reasons)


def _reason(view: View, units: set[str], studies: Sequence[Study]) -> str | None:
    if "none" in units:
        return UNPROTECTED
    if len(units) > 1:
        return MIXED
    trusted = any(mechanism_for(study).server_event == Unbounded() for study in studies)
    return TRUSTED if view == "server" and trusted else None


def _price(spendings: Iterable[SpentByView], view: View, delta: float, reasons: Mapping[View, str]) -> float | None:
    total = sum((spending[view] for spending in spendings), Counter[Event]())
    if view in reasons:
        return None
    try:
        figure = spent(tuple(sorted(total.items(), key=repr)), delta)
    except AccountingError:  # two accountants disagree: no figure is better than a wrong one
        return None
    return figure if math.isfinite(figure) else None


def _nothing() -> SpentByView:
    return {view: Counter() for view in VIEWS}


def _largest(spendings: Sequence[SpentByView]) -> SpentByView:
    return {view: _most(spending[view] for spending in spendings) for view in VIEWS}


def _most(counters: Iterable[Counter[Event]]) -> Counter[Event]:
    """Return the largest count of each event over all counters."""
    most: Counter[Event] = Counter()
    for counter in counters:
        most |= counter
    return most


def _curve(planned: Sequence[SpentByView], view: View) -> Callable[[float], float]:
    """Return the pointwise maximum of the candidates' Renyi curves."""
    events = [tuple(Composed(event, count) for event, count in spending[view].items()) for spending in planned]

    @cache
    def one(order: float) -> float:
        return max(sum(renyi(event, int(order)) for event in candidate) for candidate in events)

    return one
