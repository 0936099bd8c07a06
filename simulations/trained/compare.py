"""Compares runs: their quality, both epsilons, and the values in which their plans differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from ...server.evaluation.metrics import Score
from .run import Finished, read_finished


@dataclass(frozen=True)
class Line:
    """One run: its last measured quality, its spent epsilon by view, and its values of the keys that differ."""

    run: str
    rounds: int
    score: Score | None
    epsilon: dict[str, float | None] | None
    protected: bool
    values: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The line as plain values."""
        figure = {} if self.score is None else {"figure": self.score.figure.name, "value": self.score.value}
        return {"run": self.run, "rounds": self.rounds, **figure, "epsilon": self.epsilon, "plan": self.values}


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, in the order in which they were given."""

    lines: tuple[Line, ...]

    def table(self) -> list[list[str]]:
        """Return a heading and one row of text for each run."""
        keys = list(self.lines[0].values)
        head = ["run", "quality", "epsilon, released", "epsilon, server", "rounds", *keys]
        return [head, *([*_figures(line), *(str(line.values[key]) for key in keys)] for line in self.lines)]

    def _repr_html_(self) -> str:
        head, *rows = self.table()
        top = "".join(f"<th>{escape(name)}</th>" for name in head)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
        return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def compare(places: Sequence[Path]) -> Comparison:
    """Return the runs in these folders side by side.

    Raises:
        BractError: a folder has no model; the error names the first such folder.
    """
    runs = [read_finished(place) for place in places]
    keys = _differing(runs)
    return Comparison(tuple(_line(place, run, keys) for place, run in zip(places, runs, strict=True)))


def _line(place: Path, run: Finished, keys: Sequence[str]) -> Line:
    tested = next((record.score for record in reversed(run.records) if record.score), None)
    plan = _flat(run)
    return Line(
        str(place),
        run.round,
        tested,
        run.epsilon,
        run.plan.protected,
        {key: plan.get(key, "default") for key in keys},
    )


def _flat(run: Finished) -> dict[str, Any]:
    return {f"{table}.{key}": value for table, keys in run.plan.public().items() for key, value in keys.items()}


def _differing(runs: Sequence[Finished]) -> list[str]:
    plans = [_flat(run) for run in runs]
    keys = dict.fromkeys(key for plan in plans for key in plan if key not in ("data.path", "study.id"))
    return [key for key in keys if any(plan.get(key) != plans[0].get(key) for plan in plans)]


def _figures(line: Line) -> list[str]:
    quality = "not measured" if line.score is None else f"{line.score.figure.name} {line.score}"
    return [line.run, quality, *(_epsilon(line, view) for view in ("released", "server")), str(line.rounds)]


def _epsilon(line: Line, view: str) -> str:
    if not line.protected:
        return "nothing is protected"
    if line.epsilon is None:
        return "not known"
    value = line.epsilon[view]
    return "none" if value is None else f"{value:.3f}"
