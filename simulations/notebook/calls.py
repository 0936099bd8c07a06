"""The functions of `import bract`: simulate, budget, sweep, load and predict."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...client.records import torch_device
from ...privacy import PlanError
from ...server.round_log import RoundRecord
from .. import machine
from ..budget.answer import Question, answer, read_budget_plan
from ..loggers.base import Logger, Observers, find_logger, open_logger
from ..places import check_new, free_folder
from ..population import populate
from ..progress import Progress
from ..run import simulate as run_study
from ..study import make_study
from ..sweep.axes import Axis
from ..sweep.pool import cores
from ..sweep.request import SweepRequest
from ..sweep.run import check_failures
from ..sweep.run import sweep as run_sweep
from ..trained.predict import Predictions
from ..trained.run import network_of
from .plans import Asked, register, tables_of, with_arrays, with_network, with_place
from .records import Columns, columns_of, is_place, source_of
from .run import Run
from .run import load as load_run
from .shown import ShownBudget, ShownSweep, values

Callback = Logger | Callable[[RoundRecord], object] | str
"""A logger, the name of one, or a function of a round's public figures."""


def simulate(
    plan: Asked = None,
    *,
    data: Any = None,
    network: Any = None,
    callbacks: Sequence[Callback] = (),
    out: str | Path | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Run:
    """Train a federation on this machine and return the run.

    `plan` is a path, the name of a packaged plan, TOML text, tables, or a Plan; keys that it lacks have defaults.
    `data` replaces the plan's data: (x, y) or (x, y, clients), a pandas table, a Hugging Face data set, or a path;
    shape, classes, clients and cohort then follow from it unless the plan says them. `network` is a function of
    (shape, classes), a class of torch modules, or a `Network`. `callbacks` are loggers, their names (such as "csv"),
    or functions of a round's record. `settings` override keys: {"privacy.epsilon": 4}. `out` is a new folder, by
    default runs/NAME-001. With `seed` the run repeats exactly, but its noise is then not secret.

    Raises:
        BractError: in two lines, before any record is read where that is possible.
    """
    name, tables = tables_of(plan, settings)
    found: Columns | None = None
    if data is not None and is_place(data):
        tables = with_place(tables, data)
    elif data is not None:
        found = columns_of(data)
        tables = with_arrays(tables, found)
    if network is not None:
        tables = with_network(tables, network, found)
    if seed is not None:
        tables = tables | {"simulation": tables.get("simulation", {}) | {"seed": seed}}
    for one in callbacks:
        if isinstance(one, str):
            find_logger(one)  # or an unknown name would be found only after the data are read
    study = make_study(tables, name)
    folder = free_folder(name) if out is None else Path(out)
    check_new(folder, "name a folder that does not exist yet")
    population = None
    if found is not None:
        population = populate(study, source_of(found, study.data.shape, study.data.classes), torch_device())
    loggers = [open_logger(one, folder) if isinstance(one, str) else one for one in callbacks]
    logging = [one for one in loggers if isinstance(one, Logger)]
    calls = [one for one in loggers if callable(one) and not isinstance(one, Logger)]
    threads = torch.get_num_threads()
    machine.settle()
    try:
        with (
            Progress(study, shown=sys.stderr.isatty()) as progress,
            Observers(study, progress, logging, calls) as observers,
        ):
            run_study(study, folder, observers, population)
    finally:
        torch.set_num_threads(threads)
    return load_run(folder)


def load(folder: str | Path, network: Any = None) -> Run:
    """Return the run in a folder. A network of one's own that is not importable is given again as `network`.

    Raises:
        PlanError: the folder holds no trained model, or its network is not installed here.
    """
    if network is not None:
        register(network, network_of(Path(folder)))
    return load_run(folder)


def predict(run: Run | str | Path, x: Any) -> Predictions:
    """Return what the model of a run, or of its folder, predicts for records.

    Raises:
        DataError: the records do not fit the plan.
    """
    return (run if isinstance(run, Run) else load(run)).predict(x)


def budget(
    plan: Asked = None,
    *,
    epsilon: float | None = None,
    noise: float | None = None,
    rounds_for: float | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ShownBudget:
    """Return what a plan costs in privacy, what a budget buys, and whether training can work under the noise.

    `epsilon` asks for the noise of that epsilon, `noise` for the epsilon of that noise multiplier, and `rounds_for`
    for the rounds that an epsilon allows.

    Raises:
        PlanError: the plan has a fault, or no plan meets the question.
    """
    name, tables = tables_of(plan, settings)
    return ShownBudget(**values(answer(name, read_budget_plan(tables, name), Question(epsilon, noise, rounds_for))))


def sweep(
    plan: Asked = None,
    *,
    over: Mapping[str, Sequence[Any]],
    seeds: int = 1,
    data: str | Path | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ShownSweep:
    """Run a plan over a grid, such as over={"privacy.epsilon": [1, 2, 4]}, and return the outcome.

    Each point runs with seeds 1 to `seeds`, in `jobs` processes; so data and network are named, not passed.

    Raises:
        BractError: the grid has a fault, or runs failed; finished runs are on disk.
    """
    name, tables = tables_of(plan, settings)
    tables = tables if data is None else with_place(tables, data)
    if seeds < 1 or not over:
        raise PlanError("a sweep needs keys to vary and at least one seed", 'give over={"privacy.epsilon": [1, 2]}')
    axes = tuple(Axis(key, tuple(values)) for key, values in over.items())
    folder = free_folder(f"sweep-{name}") if out is None else Path(out)
    outcome = run_sweep(SweepRequest(name, tables, axes, seeds), folder, jobs or cores(), shown=sys.stderr.isatty())
    check_failures(outcome)
    return ShownSweep(**values(outcome))
