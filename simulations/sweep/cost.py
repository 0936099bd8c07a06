"""What a search would cost on real data: every run is a release, and all of them together are paid for."""

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
from ..study import Study
from .private_selection import Law, selection_epsilon
from .request import Run

Spending = Mapping[View, Counter[Event]]
"""What one run costs the unit that it costs most, in either view: events, and how often each happened."""

VIEWS: tuple[View, ...] = get_args(View)

UNPROTECTED = "some runs protect nothing"
TRUSTED = "the server is trusted"
MIXED = "the runs protect different units, whose costs do not add up"
WATCHING = "the server sees every run that is made, so for it they all add up"


@dataclass(frozen=True)
class Cost:
    """The epsilons of a search at `delta`, in either view; None where nothing bounds it, and `reasons` say why.

    `epsilon` is that of what was run, of the outcome if the selection was private; `once` is that of one run of each
    point, as if no seed had been repeated.
    """

    runs: int
    points: int
    unit: str | None
    delta: float
    epsilon: Mapping[View, float | None]
    once: Mapping[View, float | None]
    reasons: Mapping[View, str]


def cost_of_runs(runs: Sequence[Run], studies: Sequence[Study], folder: Path) -> Cost:
    """Return what all runs that were begun in `folder` cost together, going by their ledgers.

    A client is charged, in every run, for as many rounds as the client that was in most of them: that is an upper
    bound for every client, also where the runs deal the records out in different ways. The delta is the least of the
    runs', the unit the one that all of them protect.
    """
    spendings = [(run, ledger_spending(studies[run.point], folder / run.folder)) for run in runs]
    begun = [(run, spending) for run, spending in spendings if spending is not None]
    repeated: dict[int, Spending] = {}
    for run, spending in begun:
        repeated[run.point] = _largest([repeated.get(run.point, _nothing()), spending])
    points = sorted(repeated)
    return _cost(len(begun), [studies[p] for p in points], [s for _, s in begun], [repeated[p] for p in points])


def cost_of_selection(law: Law, studies: Sequence[Study]) -> Cost:
    """Return what the outcome of a private selection among the studies costs, whatever was drawn.

    Against the server it protects nothing: the server sees every run. `once` is one run of every point, to compare.
    """
    planned = [planned_spending(study) for study in studies]
    cost = _cost(0, studies, [], planned)
    one = _curve(planned, "released")
    released = None if "released" in cost.reasons else selection_epsilon(law, one, cost.delta)
    reasons: dict[View, str] = {"server": WATCHING, **cost.reasons}
    return Cost(0, cost.points, cost.unit, cost.delta, {"server": None, "released": released}, cost.once, reasons)


def planned_spending(study: Study) -> Spending:
    """Return what the whole study costs a client that takes part as often as one can."""
    events: Mapping[View, Event] = {"server": study.server_event, "released": study.round_event}
    return {view: Counter({events[view]: study.participations}) for view in VIEWS}


def ledger_spending(study: Study, folder: Path) -> Spending | None:
    """Return what the ledger of a run says was spent on the client that was in most of its rounds.

    None if there is no ledger: nothing was released. One that cannot be read counts as one of all planned rounds.
    """
    path = folder / "ledger.jsonl"
    if not path.exists():
        return None
    try:
        with Ledger(path, study.budget, study.digest) as ledger:
            entries = ledger.entries
    except StateError:
        return planned_spending(study)
    counts: dict[View, dict[str, Counter[Event]]] = {view: {} for view in VIEWS}
    for entry in entries:
        for view, clients in counts.items():
            for client in entry.clients:
                clients.setdefault(client, Counter())[entry.event(view)] += 1
    return {view: _most(clients.values()) for view, clients in counts.items()}


def _cost(count: int, studies: Sequence[Study], all_of_them: list[Spending], once: list[Spending]) -> Cost:
    units = {study.privacy.unit for study in studies}
    reasons: dict[View, str] = {view: reason for view in VIEWS if (reason := _reason(view, units, studies))}
    delta = min((study.privacy.delta for study in studies), default=1.0)

    def priced(spendings: Sequence[Spending]) -> dict[View, float | None]:
        return {view: _price(spendings, view, delta, reasons) for view in VIEWS}

    unit = units.pop() if len(units) == 1 else None
    return Cost(count, len(studies), unit, delta, priced(all_of_them), priced(once), reasons)


def _reason(view: View, units: set[str], studies: Sequence[Study]) -> str | None:
    if "none" in units:
        return UNPROTECTED
    if len(units) > 1:
        return MIXED
    return TRUSTED if view == "server" and any(study.server_event == Unbounded() for study in studies) else None


def _price(spendings: Iterable[Spending], view: View, delta: float, reasons: Mapping[View, str]) -> float | None:
    total = sum((spending[view] for spending in spendings), Counter[Event]())
    if view in reasons:
        return None
    try:
        figure = spent(tuple(sorted(total.items(), key=repr)), delta)
    except AccountingError:  # two accountants disagree: no figure is better than a wrong one
        return None
    return figure if math.isfinite(figure) else None


def _nothing() -> Spending:
    return {view: Counter() for view in VIEWS}


def _largest(spendings: Sequence[Spending]) -> Spending:
    return {view: _most(spending[view] for spending in spendings) for view in VIEWS}


def _most(counters: Iterable[Counter[Event]]) -> Counter[Event]:
    """Return, for each event, how often it happened to the one it happened to most."""
    most: Counter[Event] = Counter()
    for counter in counters:
        most |= counter
    return most


def _curve(planned: Sequence[Spending], view: View) -> Callable[[float], float]:
    """Return the largest Renyi curve of the candidates."""
    events = [tuple(Composed(event, count) for event, count in spending[view].items()) for spending in planned]

    @cache
    def one(order: float) -> float:
        return max(sum(renyi(event, int(order)) for event in candidate) for candidate in events)

    return one
