"""`bract compare`: show runs side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError


def compare(
    runs: Annotated[list[Path], typer.Argument(help="The folders of two or more runs.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show the quality and the epsilons of runs, and the keys in which their plans differ.

    Example: bract compare runs/mine-001 runs/mine-002
    """
    from ..simulations.trained.compare import compare as compare_runs

    if len(runs) < 2:
        raise PlanError("there is one run, and nothing to compare it with", "give two runs or more: bract list runs")
    found = compare_runs(runs)
    if as_json:
        print(json.dumps({"runs": [line.to_json() for line in found.lines]}))
        return
    table = found.table()
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
