"""Prints the answer of `bract budget`: styled on a terminal, plain to a file or a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ...privacy import mechanism_of
from ...privacy.planning.curves import CurvePoint
from .answer import BudgetAnswer, ratio_at
from .words import facts, show, show_ratio

PLAIN_WIDTH = 118
"""The line width, in columns, if stdout is not a terminal."""

BOUNDS = "curves are Renyi bounds, at or above the charged epsilon"


def print_answer(answer: BudgetAnswer) -> None:
    """Print the answer to stdout."""
    terminal = sys.stdout.isatty()
    console = Console(highlight=False, width=None if terminal else PLAIN_WIDTH, no_color=not terminal)
    with console.capture() as capture:
        _print(console, answer, box.SIMPLE_HEAD if terminal else None)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def _print(console: Console, answer: BudgetAnswer, lines: box.Box | None) -> None:
    grid = Table.grid(padding=(0, 2))
    for name, text in facts(answer):
        grid.add_row(escape(name), escape(text))
    console.print(grid)
    for title, table in tables(answer):
        table.box = lines
        console.print(f"\n{escape(title)}", style="bold")
        console.print(table)


def tables(answer: BudgetAnswer) -> Iterator[tuple[str, Table]]:
    """Yield the titled tables: the accountants' epsilons, and curves over rounds, cohort, noise and dropouts."""
    plan = answer.plan
    yield f"accountants, {mechanism_of(plan).budget_view} view", _accountants(answer)
    yield f"over rounds; {BOUNDS}", _curve("rounds", answer.rounds[::2], plan.cohort.rounds)
    yield "over the size of the cohort", _curve("cohort", answer.cohort, plan.cohort.size)
    yield "over the noise multiplier", _curve("noise", answer.noise[::2], mechanism_of(plan).noise_multiplier)
    if answer.dropouts:
        yield (
            "over the share that drops out of every round; with more dropouts no sum is opened",
            _dropouts(answer.dropouts),
        )


def _table(columns: Sequence[str]) -> Table:
    table = Table(pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _accountants(answer: BudgetAnswer) -> Table:
    table = _table(("accountant", "epsilon", "", "why"))
    for column in (table.columns[0], *table.columns[2:]):
        column.justify = "left"
    table.columns[-1].no_wrap = False
    for figure in answer.accountants:
        value = "-" if figure.epsilon is None else show(figure.epsilon)
        table.add_row(figure.accountant, value, _STANDING[figure.standing], figure.why)
    return table


_STANDING = {"reported": "charged", "bound": "bound", "estimate": "no bound"}


def _curve(axis: str, points: Sequence[CurvePoint], own: float) -> Table:
    table = _table((axis, "server", "released", "noise / signal", ""))
    for point in points:
        ratio = ratio_at(point)
        server, released = show(point.epsilons.server), show(point.epsilons.released)
        mark = "this plan" if point.at == own else ""
        table.add_row(f"{point.at:,.5g}", server, released, "-" if ratio is None else show_ratio(ratio), mark)
    return table


def _dropouts(points: Sequence[CurvePoint]) -> Table:
    table = _table(("share", "server", "released"))
    for point in points:
        table.add_row(f"{point.at:.1%}", show(point.epsilons.server), show(point.epsilons.released))
    return table
