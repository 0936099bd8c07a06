"""`bract sweep`: run a plan over a grid of settings, in parallel, and say what such a search costs in privacy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from ..privacy.errors import PlanError
from . import signals
from .arguments import find_plan, free_folder, read_asked


def sweep(
    plan: Annotated[Path | None, typer.Argument(help="The plan, a TOML file, or the name of one that ships.")] = None,
    over: Annotated[list[str] | None, typer.Option("--over", help="A key to vary: privacy.epsilon=1,2,4,8")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: cohort.rounds=20")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="Repeat every point with seeds 1 to this.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; as many as there are cores.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder for all that is written; goes on if it was begun.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="The folder of a sweep that was cut off: go on with it.")
    ] = None,
    select: Annotated[
        Literal["private"] | None, typer.Option(help="Try a secret number of points, keep the best.")
    ] = None,
    tries: Annotated[float | None, typer.Option(help="With --select: expected tries; as many as points.")] = None,
    law: Annotated[
        str | None, typer.Option(help="With --select: logarithmic, geometric, poisson or a shape.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end, nothing else.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Run a plan over a grid of settings, several seeds each, and report accuracy against epsilon."""
    from ..simulations.sweep.outcome import to_json
    from ..simulations.sweep.pool import cores
    from ..simulations.sweep.progress import summary
    from ..simulations.sweep.request import read_request
    from ..simulations.sweep.run import check_failures
    from ..simulations.sweep.run import sweep as run

    if resume and (plan or over or settings or out or seeds or select or tries is not None or law):
        raise PlanError(
            "--resume takes the sweep as it was asked for", "give --resume DIR and at most --jobs with it"
        )
    if not select and (tries is not None or law):
        raise PlanError("--tries and --law are for private selection", "add --select private")
    if select and seeds:
        raise PlanError("--select private draws its seeds itself", "leave out --seeds, or --select")
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
    from ..simulations.sweep.request import Request

    path, axes = find_plan(plan), read_axes(over)
    return Request(path.stem, read_asked(path, settings, [axis.key for axis in axes]), axes, seeds)


def _selecting(request, tries: float | None, law: str):
    from dataclasses import replace

    from ..simulations.sweep.axes import points
    from ..simulations.sweep.request import Selection

    grid = len(points(request.axes))
    if grid == 1:
        raise PlanError("private selection has nothing to choose from", "name the candidates with --over")
    selection = Selection(law, float(grid) if tries is None else tries)
    selection.make_law()  # a law that there is not is refused before anything is written
    return replace(request, selection=selection)
