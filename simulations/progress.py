"""The progress display of a simulation, and the summary at its end."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from ..privacy import Ledger
from ..server.round_log import RoundRecord
from ..server.state import ServerState
from .run import Result
from .study import Study

WIDE = 110
"""The terminal width, in columns, from which a bar is shown."""


class Progress:
    """Live progress on a terminal: rounds, quality, both epsilons, clients a second, time left."""

    def __init__(self, study: Study, shown: bool) -> None:
        self._total = study.cohort.rounds
        console = Console(stderr=True)
        bar = (BarColumn(bar_width=20), TextColumn("time left")) if console.width >= WIDE else ()
        columns = (MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), *bar, TimeRemainingColumn())
        self._bar = Bar(*columns, console=console, disable=not (shown and console.is_terminal))
        self._task = self._bar.add_task("rounds", total=self._total, figures="")
        self._answered = 0
        self._quality = "quality -"

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def started(self, state: ServerState, ledger: Ledger) -> None:
        """Start the display at the state's round."""
        del ledger
        self._bar.update(self._task, completed=state.round)

    def answered(self) -> None:
        """Count one device's answer."""
        self._answered += 1

    def said(self, line: str) -> None:
        """Do nothing: a simulation does not log single devices."""

    def finished_round(self, record: RoundRecord) -> None:
        """Show the metrics of the round."""
        self._quality = self._quality if record.figures is None else record.quality
        rate = self._answered / max(self._bar.tasks[0].elapsed or 0.0, 1e-9)
        figures = [self._quality, _epsilons(record.epsilon), f"{rate:.1f} clients/s"]
        self._bar.update(self._task, completed=record.round, figures="  ".join(figures))


def summary(result: Result) -> str:
    """Return the summary of a run: quality, both epsilons, and the path of the report."""
    early = [f"stopped     {result.stopped}"] if result.stopped else []
    return "\n".join(
        [
            _quality(result),
            f"epsilon     {epsilon_in_words(result, 'released')}, to whoever sees only the released models",
            f"            {epsilon_in_words(result, 'server')}, to the server",
            *early,
            f"rounds      {result.rounds} with {result.clients} clients and {result.records} records"
            f" in {result.seconds:.0f} s",
            f"report      {result.out}/report.html",
        ]
    )


def epsilon_in_words(result: Result, view: str) -> str:
    """Return one view's epsilon as a phrase, or the reason why there is none."""
    value = result.epsilon[view]
    if value is not None:
        return f"{value:.3f} for each {result.unit} at delta {result.delta:g}"
    return "none: nothing is protected" if result.unit == "none" else "none: the server is trusted"


def _quality(result: Result) -> str:
    if result.score is None:
        return "quality     none: not measured, or not finite"
    return f"{result.score.figure.name:<11} {result.score} on test records that no client holds"


def _epsilons(epsilon: Mapping[str, float | None]) -> str:
    figures = (f"{view} {'none' if value is None else f'{value:.2f}'}" for view, value in epsilon.items())
    return f"epsilon {' '.join(figures)}"
