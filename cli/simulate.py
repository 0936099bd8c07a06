"""`bract simulate`: train a federation on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..privacy.errors import PlanError
from . import signals
from .arguments import check_new, find_plan, free_folder, read_asked


def simulate(
    plan: Annotated[Path | None, typer.Argument(help="A plan: a TOML file, or the name of a packaged plan.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="Override a key: privacy.epsilon=4")] = None,
    out: Annotated[Path | None, typer.Option(help="A new folder for the files of the run.")] = None,
    resume: Annotated[Path | None, typer.Option(help="The folder of an interrupted run to resume.")] = None,
    seed: Annotated[int | None, typer.Option(help="Make the run reproducible; its noise is then not secret.")] = None,
    ledger: Annotated[Path | None, typer.Option(help="Charge the run to the ledger of a population.")] = None,
    log: Annotated[
        list[str] | None,
        typer.Option("--log", help="Log each round: csv, tensorboard, mlflow, wandb, trackio, or one's own."),
    ] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Also run the plan without noise, and report both.")
    ] = False,
    device: Annotated[str, typer.Option(help="Where to train: auto, cpu, cuda, or cuda:1.")] = "auto",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object at the end and nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Train a federation on this machine and report what it cost in privacy.

    Example: bract simulate digits-central-eps8 --set privacy.epsilon=4 --seed 1 --out runs/four --log csv
    """
    from ..simulations import machine
    from ..simulations.loggers.base import Observers, open_logger
    from ..simulations.progress import Progress, summary
    from ..simulations.run import simulate as run
    from ..simulations.run import to_json

    machine.choose_device(device)
    machine.settle()
    if resume and (plan or settings or out or seed is not None):
        raise PlanError("--resume uses the run's own plan", "leave out the plan, --set, --out and --seed")
    if ledger and not ledger.exists():
        raise PlanError(
            f"there is no ledger {ledger}", f"create it: bract ledger new {ledger} --epsilon 6 --delta 1e-5"
        )
    study, folder = _resumed(resume) if resume else _planned(plan, settings or [], out, seed)
    signals.advise_to_resume("simulate", folder, "plan.toml")
    loggers = [open_logger(name, folder) for name in log or []]
    with (
        Progress(study, shown=not (as_json or quiet)) as progress,
        Observers(study, progress, loggers) as observers,
    ):
        result = run(study, folder, observers, ledger=ledger, baseline=baseline)
    print(json.dumps(to_json(result)) if as_json else summary(result))


def _planned(plan: Path | None, settings: list[str], out: Path | None, seed: int | None):
    from ..simulations.study import make_study

    path = find_plan(plan)
    extra = [] if seed is None else [f"simulation.seed={seed}"]
    study = make_study(read_asked(path, [*settings, *extra]), str(path.name))
    folder = out or free_folder(path.stem)
    check_new(folder, f"choose another --out, or resume with --resume {folder}")
    return study, folder


def _resumed(folder: Path):
    from ..simulations.study import read_run

    return read_run(folder), folder
