"""Answers that a notebook shows as tables: what the packages below return, with their reports' HTML."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..budget.answer import BudgetAnswer
from ..report import budget_report, sweep_report
from ..report.evaluation import sections
from ..sweep.outcome import SweepOutcome
from ..trained.evaluate import Evaluation


class ShownBudget(BudgetAnswer):
    """The answer of `bract.budget`."""

    def _repr_html_(self) -> str:
        return budget_report.shown(self)


class ShownSweep(SweepOutcome):
    """The outcome of `bract.sweep`."""

    def _repr_html_(self) -> str:
        return sweep_report.shown(self)


class ShownEvaluation(Evaluation):
    """The result of `run.evaluate`."""

    def _repr_html_(self) -> str:
        return "\n".join(sections(self))


def values(record: Any) -> dict[str, Any]:
    """Return the fields of a dataclass by name, as they are."""
    return {field.name: getattr(record, field.name) for field in fields(record)}
