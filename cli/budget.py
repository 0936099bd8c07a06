"""`bract budget`: say what a plan costs, what a budget buys, and whether training can stand the noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError
from .arguments import find_plan, keys_of

ASK = "name a file that ends in .html, as --plot budget.html"


def budget(
    plan: Annotated[Path | None, typer.Argument(help="The plan, a TOML file, or the name of one that ships.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: privacy.delta=1e-6")] = None,
    epsilon: Annotated[float | None, typer.Option(help="Say which noise this epsilon takes.")] = None,
    noise: Annotated[float | None, typer.Option(help="Say which epsilon this noise multiplier costs.")] = None,
    rounds_for: Annotated[
        float | None, typer.Option(help="Say how many rounds this epsilon buys, at --noise or the plan's own.")
    ] = None,
    parameters: Annotated[int | None, typer.Option(help="How many parameters the model has.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object, nothing else.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a report with the curves to this .html file.")] = None,
) -> None:
    """Say what a plan costs in privacy, what a budget buys, and whether training can stand the noise."""
    from ..privacy import override, read_tables
    from ..simulations.budget.answer import Question, answer, read_budget_plan, to_json

    if plot and plot.suffix.lower() not in (".html", ".htm"):
        raise PlanError(f"--plot writes a page of HTML, not {plot.suffix or 'a file without an ending'}", ASK)
    path = find_plan(plan)
    keys_of(settings or [])
    resolved = read_budget_plan(override(read_tables(path), settings or []), path.name, parameters)
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
