"""The outcome of a sweep: its runs grouped by point, the best point, and the Pareto front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from ...privacy import View
from ...server.evaluation.metrics import FIGURES, HEADLINES, QualityFigure, Score
from .axes import Values
from .cost import VIEWS, Cost
from .request import SweepRequest
from .results import Record


@dataclass(frozen=True)
class SweepPoint:
    """A point of the grid, and its finished runs that have the compared metric `key`: at least one, one per seed."""

    values: Values
    runs: tuple[Record, ...]
    key: str

    @cached_property
    def score(self) -> Score:
        """The mean of the compared metric over the seeds."""
        return Score(FIGURES[self.key], self.figures[self.key])

    @cached_property
    def figures(self) -> dict[str, float]:
        """The mean over the seeds of each metric that every run has."""
        shared = [key for key in FIGURES if all(key in run.figures for run in self.runs)]
        return {key: fmean(run.figures[key] for run in self.runs) for key in shared}

    @property
    def low(self) -> float:
        """The smallest value of the compared metric over the seeds."""
        return min(run.figures[self.key] for run in self.runs)

    @property
    def high(self) -> float:
        """The largest value of the compared metric over the seeds."""
        return max(run.figures[self.key] for run in self.runs)

    def show(self, value: float) -> str:
        """Return a value of the compared metric as text."""
        return FIGURES[self.key].show(value)

    @property
    def loss(self) -> float | None:
        """The mean loss over the seeds."""
        losses = [run.loss for run in self.runs if run.loss is not None]
        return fmean(losses) if losses else None

    def epsilon(self, view: View) -> float | None:
        """Return the largest epsilon of one run over the seeds, in one view; None without a bound."""
        figures = [run.epsilon[view] for run in self.runs]
        return None if None in figures else max(e for e in figures if e is not None)


@dataclass(frozen=True)
class SweepOutcome:
    """A finished sweep: its request, the records of all runs in order, its points, and the cost of the search.

    After a private selection, `records` and `points` hold only the selected outcome, or nothing.
    """

    request: SweepRequest
    folder: Path
    records: tuple[Record, ...]
    points: tuple[SweepPoint, ...]
    cost: Cost
    seconds: float

    @property
    def failed(self) -> list[Record]:
        """The runs that failed."""
        return [record for record in self.records if not record.finished]

    @cached_property
    def best(self) -> SweepPoint | None:
        """The point with the best mean score; ties go to the smallest epsilon, then to the first point."""
        return max(self.points, key=lambda p: (p.score.merit, -_or_infinite(p.epsilon("released"))), default=None)

    @property
    def figure(self) -> QualityFigure:
        """The metric that compares the points."""
        return self.best.score.figure if self.best else QualityFigure("quality")

    @cached_property
    def view(self) -> View:
        """The view for comparisons: server if all protected points have an epsilon there, else released."""
        protected = [p for p in self.points if p.epsilon("released") is not None]
        return "server" if protected and all(p.epsilon("server") is not None for p in protected) else "released"

    @cached_property
    def front(self) -> list[SweepPoint]:
        """The Pareto front of score and epsilon, by increasing epsilon."""
        found: list[SweepPoint] = []
        finite = [p for p in self.points if p.epsilon(self.view) is not None]
        for point in sorted(finite, key=lambda p: (_or_infinite(p.epsilon(self.view)), -p.score.merit)):
            if not found or point.score.merit > found[-1].score.merit:
                found.append(point)
        return found


def make_points(records: Sequence[Record]) -> tuple[SweepPoint, ...]:
    """Return the points that have a finished and measured run, in the order of the records.

    All points are compared by one metric, the headline metric of the first such run. Runs without that metric, such
    as runs of a network with another task, are left out.
    """
    finished = [record for record in records if record.finished]
    key = next((key for record in finished for key in HEADLINES if key in record.figures), None)
    grouped: list[tuple[Values, list[Record]]] = []
    for record in finished:
        if key not in record.figures:
            continue
        group = next((runs for values, runs in grouped if values == record.values), None)
        if group is None:
            grouped.append((record.values, group := []))
        group.append(record)
    return tuple(SweepPoint(values, tuple(runs), key) for values, runs in grouped if key)


def winner(records: Sequence[Record]) -> Record | None:
    """Return the record with the best score; ties go to the first, and a failed run counts as the worst."""
    able = [(record, record.score) for record in records if record.finished and record.score]
    return max(able, key=lambda pair: pair[1].merit, default=(None, None))[0]


def to_json(outcome: SweepOutcome) -> dict[str, Any]:
    """Return the outcome as plain values: the object that `--json` prints."""
    best, cost, selection = outcome.best, outcome.cost, outcome.request.selection
    values: dict[str, Any] = {
        "name": outcome.request.name,
        "out": str(outcome.folder),
        "runs": len(outcome.records),
        "failed": len(outcome.failed),
        "seconds": round(outcome.seconds, 3),
        "best": best and _point(best),
        "view": outcome.view,
        "front": [_point(point) for point in outcome.front],
        "points": [_point(point) for point in outcome.points],
        "search": {
            "runs": cost.runs,
            "points": cost.points,
            "unit": cost.unit,
            "delta": cost.delta,
            "epsilon": dict(cost.epsilon),
            "one_run_a_point": dict(cost.once),
            "why_none": dict(cost.reasons),
        },
    }
    if selection is None:
        return values
    for hidden in ("runs", "failed", "view", "front", "points"):
        del values[hidden]
    del values["search"]["runs"]
    return values | {"selection": {"law": selection.law, "tries": selection.tries}}


def _point(point: SweepPoint) -> dict[str, Any]:
    return {
        "values": dict(point.values),
        point.key: round(point.score.value, 6),
        "low": point.low,
        "high": point.high,
        "loss": point.loss,
        "figures": point.figures,
        "seeds": [run.seed for run in point.runs],
        "epsilon": {view: point.epsilon(view) for view in VIEWS},
    }


def _or_infinite(figure: float | None) -> float:
    return math.inf if figure is None else figure
