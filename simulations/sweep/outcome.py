"""What a sweep came to: its runs put together by point, the best of them, and those that no other one beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

from ...privacy import View
from .cost import VIEWS, Cost
from .grid import Values
from .request import Request
from .results import Record


@dataclass(frozen=True)
class Point:
    """A point of the grid and its finished runs with a measured accuracy, one a seed; at least one."""

    values: Values
    runs: tuple[Record, ...]

    @cached_property
    def accuracies(self) -> list[float]:
        """The accuracies over the seeds, each in 0..1."""
        return [run.accuracy for run in self.runs if run.accuracy is not None]

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return fmean(self.accuracies)

    @property
    def low(self) -> float:
        """The least of them."""
        return min(self.accuracies)

    @property
    def high(self) -> float:
        """The largest of them."""
        return max(self.accuracies)

    @property
    def loss(self) -> float | None:
        """The mean loss over the seeds, in nats."""
        losses = [run.loss for run in self.runs if run.loss is not None]
        return fmean(losses) if losses else None

    def epsilon(self, view: View) -> float | None:
        """What one run cost in one view, the most over the seeds; None where nothing bounds it."""
        figures = [run.epsilon[view] for run in self.runs]
        return None if None in figures else max(e for e in figures if e is not None)


@dataclass(frozen=True)
class Outcome:
    """A sweep that has ended: what was asked, every run's record in order, its points, and what the search costs.

    Where the selection was private, `records` and `points` hold the one outcome alone, or nothing.
    """

    request: Request
    folder: Path
    records: tuple[Record, ...]
    points: tuple[Point, ...]
    cost: Cost
    seconds: float

    @property
    def failed(self) -> list[Record]:
        """The runs that failed."""
        return [record for record in self.records if not record.finished]

    @cached_property
    def best(self) -> Point | None:
        """The point of the highest mean accuracy; among equals the one of least epsilon, then the first."""
        return max(self.points, key=lambda p: (p.accuracy, -_or_infinite(p.epsilon("released"))), default=None)

    @cached_property
    def view(self) -> View:
        """The view that points are compared in: the server's where all protected points have an epsilon there."""
        protected = [p for p in self.points if p.epsilon("released") is not None]
        return "server" if protected and all(p.epsilon("server") is not None for p in protected) else "released"

    @cached_property
    def front(self) -> list[Point]:
        """The points of which no other has an accuracy as high at an epsilon as low, cheapest first."""
        found: list[Point] = []
        finite = [p for p in self.points if p.epsilon(self.view) is not None]
        for point in sorted(finite, key=lambda p: (_or_infinite(p.epsilon(self.view)), -p.accuracy)):
            if not found or point.accuracy > found[-1].accuracy:
                found.append(point)
        return found


def make_points(records: Sequence[Record]) -> tuple[Point, ...]:
    """Return the points of which a run was finished and measured, in the order of the records."""
    grouped: list[tuple[Values, list[Record]]] = []
    for record in records:
        if not record.finished or record.accuracy is None:
            continue
        group = next((runs for values, runs in grouped if values == record.values), None)
        if group is None:
            grouped.append((record.values, group := []))
        group.append(record)
    return tuple(Point(values, tuple(runs)) for values, runs in grouped)


def winner(records: Sequence[Record]) -> Record | None:
    """Return the record of the highest accuracy, the first among equals; a run that failed counts as the worst."""
    able = [record for record in records if record.finished and record.accuracy is not None]
    return max(able, key=lambda record: record.accuracy or 0.0, default=None)


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as plain values: the one object that `--json` prints."""
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


def _point(point: Point) -> dict[str, Any]:
    return {
        "values": dict(point.values),
        "accuracy": round(point.accuracy, 6),
        "low": point.low,
        "high": point.high,
        "loss": point.loss,
        "seeds": [run.seed for run in point.runs],
        "epsilon": {view: point.epsilon(view) for view in VIEWS},
    }


def _or_infinite(figure: float | None) -> float:
    return math.inf if figure is None else figure
