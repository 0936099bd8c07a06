"""`bract sweep`: run a plan over a grid of settings, in parallel, and report what the search costs in privacy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..privacy.errors import PlanError
from . import signals
from .arguments import find_plan, free_folder, read_asked


def sweep(
    plan: Annotated[Path | None, typer.Argument(help="A plan: a TOML file, or the name of a packaged plan.")] = None,
    over: Annotated[list[str] | None, typer.Option("--over", help="A key to vary: privacy.epsilon=1,2,4,8")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: cohort.rounds=20")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Run every point with seeds 1 to this number.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs in parallel; default: one per core.")] = None,
    out: Annotated[Path | None, typer.Option(help="The output folder; a sweep already in it is resumed.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an interrupted sweep to resume.")] = None,
    select: Annotated[
        Literal["private"] | None, typer.Option(help="Try a secret number of points and release the best.")
    ] = None,
    tries: Annotated[
        float | None, typer.Option(help="With --select: the expected number of tries; default: one per point.")
    ] = None,
    law: Annotated[
        str | None, typer.Option(help="With --select: logarithmic, geometric, poisson, or a shape (a number).")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Run a plan over a grid of settings, with several seeds each, and report accuracy against epsilon."""
    from ..simulations.sweep.outcome import to_json
    from ..simulations.sweep.pool import cores
    from ..simulations.sweep.progress import summary
    from ..simulations.sweep.request import read_request
    from ..simulations.sweep.run import check_failures
    from ..simulations.sweep.run import sweep as run

    if resume and (plan or over or settings or out or seeds or select or tries is not None or law):
        raise PlanError("--resume uses the sweep's own settings", "give only --resume DIR and, if you like, --jobs")
    if not select and (tries is not None or law):
        raise PlanError("--tries and --law belong to private selection", "add --select private")
    if select and seeds:
        raise PlanError("--select private draws its own seeds", "leave out --seeds, or --select")
    request = read_request(resume) if resume else _asked(plan, over or [], settings or [], seeds or 1)
    if select:
        request = _selecting(request, tries, law or "logarithmic")
    folder = resume or out or free_folder(f"sweep-{request.name}")
    signals.advise_to_resume("sweep", folder, "sweep.toml")
    outcome = run(request, folder, jobs or cores(), shown=not (as_json or quiet))
    print(json.dumps(to_json(outcome)) if as_json else summary(outcome))
    check_failures(outcome)


def _asked(plan: Path | None, over: list[str], settings: list[str], seeds: int):
    from ..simulations.sweep.axes import read_axes
    from ..simulations.sweep.request import SweepRequest

    path, axes = find_plan(plan), read_axes(over)
    return SweepRequest(path.stem, read_asked(path, settings, [axis.key for axis in axes]), axes, seeds)


def _selecting(request, tries: float | None, law: str):
    from dataclasses import replace

    from ..simulations.sweep.axes import points
    from ..simulations.sweep.request import Selection

    grid = len(points(request.axes))
    if grid == 1:
        raise PlanError("private selection has nothing to choose from", "name the candidates with --over")
    selection = Selection(law, float(grid) if tries is None else tries)
    selection.make_repetitions()  # refuses an unknown law before anything is written
    return replace(request, selection=selection)
