"""`bract budget`: report what a plan costs, what a budget buys, and whether training can work under the noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError
from .arguments import find_plan, keys_of, read_asked

PLOT_HINT = "name a file that ends in .html: --plot budget.html"


def budget(
    plan: Annotated[Path | None, typer.Argument(help="A plan: a TOML file, or the name of a packaged plan.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: privacy.delta=1e-6")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Find the noise multiplier for this epsilon.")] = None,
    noise: Annotated[float | None, typer.Option(help="Compute the epsilon of this noise multiplier.")] = None,
    rounds_for: Annotated[
        float | None, typer.Option(help="Count the rounds that this epsilon allows, at --noise or the plan's noise.")
    ] = None,
    parameters: Annotated[int | None, typer.Option(help="The number of the model's parameters.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a report with plots to this .html file.")] = None,
) -> None:
    """Report what a plan costs in privacy, what a budget buys, and whether training can work under the noise."""
    from ..privacy import override, read_tables
    from ..simulations.budget.answer import Question, answer, read_budget_plan, to_json

    if plot and plot.suffix.lower() not in (".html", ".htm"):
        raise PlanError(f"--plot writes HTML, not {plot.suffix or 'a file without a suffix'}", PLOT_HINT)
    path = find_plan(plan)
    keys_of(settings or [])
    tables = override(read_tables(path), settings or [])
    model = tables.get("model", {})
    if ":" in str(model.get("name")) or "weights" in model:  # files beside the plan
        tables = read_asked(path, settings or [])
    resolved = read_budget_plan(tables, path.name, parameters)
    found = answer(path.stem, resolved, Question(epsilon, noise, rounds_for))
    if plot:
        from ..simulations.report.budget_report import write_report

        write_report(plot, found)
    if as_json:
        print(json.dumps(to_json(found)))
        return
    from ..simulations.budget.tables import print_answer

    print_answer(found)
    if plot:
        print(f"\nreport      {plot}")
