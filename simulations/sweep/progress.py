"""The progress display of a sweep, and the summary at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from ...privacy import View
from ...server.evaluation.metrics import Score, score_of
from .axes import describe
from .cost import Cost
from .outcome import SweepOutcome, SweepPoint
from .pool import Message
from .results import Record

OBSERVERS = {"released": "to whoever sees only the released models", "server": "to the server"}


class SweepProgress:
    """Live progress on a terminal: finished and running runs, the best score so far, and the estimated time left."""

    def __init__(self, rounds: Mapping[int, int], finished: Sequence[Record], shown: bool) -> None:
        """`rounds` maps each run's number to its rounds; `finished` are the records of earlier, finished runs."""
        self._rounds = rounds
        self._done = {record.run: rounds[record.run] for record in finished}
        self._running: set[int] = set()
        self._ended, self._failed, self._fresh = len(finished), 0, 0
        self._best: Score | None = None
        for record in finished:
            self._judge(record.score)
        console = Console(stderr=True)
        self._bar = Bar(
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}"),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._began = time.monotonic()
        self._task = self._bar.add_task("sweep", total=sum(rounds.values()), figures="")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        self._show()
        return self

    def __exit__(self, kind: type | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def update(self, message: Message) -> None:
        """Update the display with a worker's message."""
        run = message["run"]
        if "record" in message:
            self._take(run, message["record"])
        else:
            self._running.add(run)
            self._done[run] = message["round"]
            self._fresh += message["fresh"]
        self._show()

    def _take(self, run: int, record: Mapping[str, Any]) -> None:
        self._running.discard(run)
        self._done[run] = self._rounds[run]
        self._ended += 1
        self._failed += record["error"] is not None
        self._judge(score_of(record["figures"]))

    def _judge(self, score: Score | None) -> None:
        if score and (self._best is None or score.merit > self._best.merit):
            self._best = score

    @property
    def figures(self) -> str:
        """The text beside the progress bar."""
        parts = [f"{self._ended}/{len(self._rounds)} runs", f"{len(self._running)} running"]
        parts += [f"{self._failed} failed"] if self._failed else []
        parts += [] if self._best is None else [f"best {self._best}"]
        return "  ".join([*parts, self._time_left()])

    def _time_left(self) -> str:
        left = sum(self._rounds.values()) - sum(self._done.values())
        if not self._fresh:
            return "time left -:--:--"
        seconds = int(left / self._fresh * (time.monotonic() - self._began))
        return f"time left {seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def _show(self) -> None:
        self._bar.update(self._task, completed=sum(self._done.values()), figures=self.figures)


def summary(outcome: SweepOutcome) -> str:
    """Return the summary of a sweep: the best point, the cost of the search, and the path of the report."""
    private, best = outcome.request.selection is not None, outcome.best
    lines = [] if private else [_runs(outcome)]
    lines += ["best        no run was finished and measured"] if best is None else _best(best)
    lines += _selected(outcome) if private else _search(outcome.cost)
    return "\n".join([*lines, f"report      {outcome.folder}/report.html"])


def _runs(outcome: SweepOutcome) -> str:
    finished = len(outcome.records) - len(outcome.failed)
    seconds = sum(record.seconds for record in outcome.records)
    return f"runs        {finished} of {len(outcome.records)} finished, {seconds:.0f} s of training"


def _best(best: SweepPoint) -> list[str]:
    seeds = len(best.runs)
    spread = f" ({best.show(best.low)} to {best.show(best.high)} over {seeds} seeds)" if seeds > 1 else ""
    return [
        f"best        {best.score.figure.name} {best.score}{spread} on test records that no client holds",
        f"            {describe(best.values)}",
    ]


def _search(cost: Cost) -> list[str]:
    if not cost.runs:
        return []
    runs = "this run costs" if cost.runs == 1 else f"these {cost.runs} runs together cost"
    every = f"on real data {runs}"
    lines = [f"search      {every}", *_views(cost, cost.epsilon)]
    if cost.runs > cost.points:
        lines += ["            or, with one run per point,", *_views(cost, cost.once)]
    return lines


def _selected(outcome: SweepOutcome) -> list[str]:
    selection, cost = outcome.request.selection, outcome.cost
    if selection is None:
        return []
    chosen = f"private, {selection.tries:g} {selection.law} tries expected; on real data the outcome costs"
    return [
        f"selection   {chosen}",
        *_views(cost, cost.epsilon),
        "            or, with one run per point and all of them released,",
        *_views(cost, cost.once),
    ]


def _views(cost: Cost, epsilon: Mapping[View, float | None]) -> list[str]:
    return [
        f"            epsilon {in_words(cost, epsilon, view)}, {OBSERVERS[view]}" for view in ("released", "server")
    ]


def in_words(cost: Cost, epsilon: Mapping[View, float | None], view: View) -> str:
    """Return one view's epsilon as a phrase, or the reason why there is none."""
    figure = epsilon[view]
    if figure is None:
        return f"none: {cost.reasons.get(view, 'no bound could be computed')}"
    return f"{figure:.3f} for each {cost.unit or 'unit'} at delta {cost.delta:g}"
