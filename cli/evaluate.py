"""`bract evaluate`: measure a trained model on labelled records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder of a run, or its model.safetensors.")],
    file: Annotated[Path, typer.Argument(help="Labelled records, in a form that data.path takes.")],
    html: Annotated[
        Path | None, typer.Option(help="Write a page with tables and a plot to a new .html file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure a model on labelled records: by class, by client, which classes it confuses, and its calibration.

    Example: bract evaluate runs/mine-001 test.csv --html quality.html
    """
    from ..simulations.trained.evaluate import evaluate as evaluate_with
    from ..simulations.trained.evaluate import lines
    from ..simulations.trained.records import notice_of_order, read_labelled
    from ..simulations.trained.run import read_trained

    if html and html.suffix.lower() not in (".html", ".htm"):
        raise PlanError(f"--html writes an .html file, not {html.name}", f"name it {html.stem}.html")
    if html and html.exists():
        raise PlanError(f"{html} exists", "name a file that does not exist yet")
    trained = read_trained(run)
    records = read_labelled(file, trained.plan)
    if notice := notice_of_order(file, trained.plan):
        print(f"notice: {notice}", file=sys.stderr)
    found = evaluate_with(trained, records)
    if html:
        from ..simulations.report.evaluation import write_evaluation

        write_evaluation(html, found, f"{trained.plan.model.name} on {trained.plan.data.name}", file.name)
    if as_json:
        print(json.dumps(found.to_json()))
        return
    print("\n".join(lines(found)))
    if html:
        print(f"\npage        {html}")
