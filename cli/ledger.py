"""`bract ledger`: create a ledger that several plans share, and show any ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ..privacy.ledger.statement import Statement

ledger = typer.Typer(help="Create a ledger that several plans share, and show any ledger.")

AGAINST = {
    "server": "against the server",
    "released": "against whoever sees only the released models",
    "charged": "in the view that each plan's budget limits",
}


@ledger.command()
def new(
    path: Annotated[Path, typer.Argument(help="The file to create.")],
    epsilon: Annotated[float, typer.Option(help="The limit on the epsilon of all plans together.")],
    delta: Annotated[float, typer.Option(help="The delta of the budget; every plan must have the same.")],
    unit: Annotated[Literal["record", "client"], typer.Option(help="The unit that the plans protect.")] = "record",
    view: Annotated[Literal["server", "released"], typer.Option(help="The view; released for central noise.")] = (
        "server"
    ),
) -> None:
    """Create the ledger of a population: plans that train on the same clients share its budget."""
    from ..privacy import Budget
    from ..privacy.ledger.ledger import new_population

    new_population(path, Budget(epsilon, delta, unit, view))
    print(f"{path} has a budget of epsilon {epsilon:g} at delta {delta:g} for each {unit}, {AGAINST[view]}")


@ledger.command()
def show(
    path: Annotated[Path, typer.Argument(help="The ledger of a run, of a population or of a device.")],
    terms: Annotated[Path | None, typer.Option(help="A device's terms, which set its budget and delta.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the budget, what each plan has spent, and whether the ledger is intact."""
    from ..client.terms import Terms, read_terms
    from ..privacy import PlanError
    from ..privacy.ledger.statement import make_statement, read_ledger

    said = make_statement(read_ledger(path), (read_terms(terms) if terms else Terms()).budget)
    if terms and said.kind != "device":
        raise PlanError(f"{path} is the ledger of a {said.kind}, --terms is for a device's", "leave out --terms")
    print(json.dumps(said.to_json()) if as_json else "\n".join(_lines(said, terms is not None)))


def _lines(said: Statement, limited: bool) -> Iterator[str]:
    budget, rounds = said.budget, "rounds" if said.kind == "device" else "releases"
    yield f"ledger      of a {said.kind}, whole: {said.entries} {rounds}, last line {said.head}"
    if said.kind == "device" and not limited:
        yield "budget      set by the owner's terms; give them with --terms"
    elif said.kind == "device":
        yield f"budget      epsilon {budget.epsilon:g} at delta {budget.delta:g}, by the owner's terms"
    else:
        limit = "without a bound" if budget.epsilon is None else f"epsilon {budget.epsilon:g}"
        yield f"budget      {limit} at delta {budget.delta:g} for each {budget.unit}, {AGAINST[budget.view]}"
    for place, (view, epsilon) in enumerate(said.spent.items()):
        figure = "without a bound" if epsilon is None else f"epsilon {epsilon:.4g} at delta {budget.delta:g}"
        yield f"{'' if place else 'spent':<11} {figure}, {AGAINST[view]}"
    if said.kind != "device":
        yield f"clients     {said.clients}, each in at most {said.most} releases; spent is what one lost at most"
    for share in said.shares:
        run = f", run {share.run[:20]}" if share.run else ""
        yield f"plan        {share.plan[:16]}{run}: {share.entries} {rounds}"
