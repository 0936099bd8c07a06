"""The quality section of the report: the metrics of the last test."""

from __future__ import annotations

from ...server.evaluation.metrics import FIGURES
from ...server.round_log import RoundRecord
from ...server.training import Outcome


def score(outcome: Outcome) -> tuple[str, str]:
    """Return the name and value of the metric that compares models, or the reason why there is none."""
    tested = _tested(outcome)
    if tested is None:
        return "Quality", "not measured"
    return (tested.score.figure.title, str(tested.score)) if tested.score else ("Quality", "not finite")


def quality(outcome: Outcome) -> list[tuple[str, str]]:
    """Return all metrics as (name, value), and the loss; an empty list without a test."""
    tested = _tested(outcome)
    if tested is None:
        return []
    facts = [(FIGURES[key].title, FIGURES[key].show(value)) for key, value in (tested.figures or {}).items()]
    return [
        *facts,
        ("Loss, mean over the test records", "not finite" if tested.loss is None else f"{tested.loss:.4g}"),
    ]


def _tested(outcome: Outcome) -> RoundRecord | None:
    return next((record for record in reversed(outcome.records) if record.figures is not None), None)
