"""The Flower ServerApp of a deployment."""

from __future__ import annotations

import logging
import secrets
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from ..models import count_parameters, keep_weights, objective_of
from ..models.tables import Unfit, adapt, prepare, read_cut
from ..privacy import BractError, DataError, DivergedError, Mechanism, Plan, PlanError, StateError, accept_plan
from ..privacy.errors import Printable
from ..privacy.npz import Features, Labels, read_arrays, read_mark
from ..privacy.secagg.identity import read_roster
from ..privacy.settings import check_settings
from ..privacy.storage import create_once, storage
from .answers import RoundFailed
from .evaluation.evaluate import Evaluate, make_evaluate
from .model_file import MODEL_FILE, write_card, write_model, write_released
from .network import check_trainable
from .round_log import RoundRecord
from .rounds import train
from .training import OWN_LEDGER, SHARE, NullObserver, Outcome, TrainingRun

SETTINGS = ("plan", "out", "test-data", "roster", "ledger")
"""The settings of a run; pyproject.toml lists them for Flower."""

LEDGERS = (OWN_LEDGER, SHARE)
BEGUN = (*LEDGERS, "checkpoint.bract")
"""Files in the folder of a run that has begun."""

log = logging.getLogger("bract.server")
log.addFilter(Printable())
app = ServerApp()


PAUSES = (10.0, 30.0, 90.0, 270.0)
"""Seconds before each further try after consecutive failed rounds; after the last try, the run ends."""


class Log(NullObserver):
    """An observer that logs a line for each round, and messages for the operator."""

    def said(self, line: str) -> None:
        """Log a message for the operator."""
        log.warning("%s", line)

    def finished_round(self, record: RoundRecord) -> None:
        """Log the record of a round."""
        log.warning(
            "round %d: %s, epsilon %s, %d of %d devices, answers %s",
            record.round,
            "lost, nothing was released" if record.lost else record.quality,
            ", ".join(
                f"{'none' if figure is None else f'{figure:.3f}'} ({view})" for view, figure in record.epsilon.items()
            ),
            record.survivors,
            record.cohort,
            dict(record.codes),
        )


def in_two_lines(record: logging.LogRecord) -> bool:
    """Reduce Flower's log record of a `BractError` to the error's two lines, without a traceback; return True."""
    fault = record.exc_info[1] if record.exc_info else None
    if isinstance(fault, BractError):
        record.msg, record.args, record.exc_info, record.exc_text = "%s", (str(fault),), None, None
    return True


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the training of the run's configuration.

    It needs `plan` and `out`. `roster` is for secure aggregation, `test-data` for evaluation, and `ledger` for plans
    over the same devices that share a ledger. Errors propagate as exceptions, so Flower marks the run as failed;
    `flwr list` and the run's log show their two lines.
    """
    logging.getLogger("flwr").addFilter(in_two_lines)
    check_settings(context.run_config, SETTINGS, "run")
    folder = _setting(context, "out")
    mechanism = _mechanism(_setting(context, "plan"))
    plan = mechanism.plan
    roster = read_roster(_setting(context, "roster")) if plan.secure else None
    evaluate = _evaluate(plan, context)
    shared = _setting(context, "ledger") if context.run_config.get("ledger") else None
    if shared is not None and not plan.secure:
        raise PlanError(
            "this plan's clients are pseudonyms that differ from plan to plan: a shared ledger cannot recognise them",
            "set aggregation.protocol = secagg, whose roster names them, or leave the ledger out",
        )
    mechanism = _named(mechanism, folder)
    training = TrainingRun(
        mechanism,
        folder,
        evaluate,
        observer=Log(),
        run=context.run_id,
        roster=roster,
        shared_ledger=shared,
        pauses=PAUSES,
    )
    try:
        outcome = train(grid, training)
    except (DivergedError, RoundFailed):
        write_released(training)
        raise
    _end(mechanism.plan, folder, outcome)


def _named(mechanism: Mechanism, folder: Path) -> Mechanism:
    """Return the mechanism of the run in a folder; at its first start, the study gets an ID, which is stored there.

    Devices count their participations by the plan's digest, over all runs. The ID in the plan tells them that a
    restart continues the same study, and a training in another folder is a new study.

    Raises:
        StateError: the folder holds a run of another plan, or a run without its ledger, although devices have
        counted.
    """
    plan, path = mechanism.plan, folder / "plan.toml"
    begun = path.exists()
    if not path.exists() and any((folder / name).exists() for name in BEGUN):
        return mechanism
    with storage(folder):
        folder.mkdir(parents=True, exist_ok=True)
    fresh = plan if plan.study.id else plan.named(secrets.token_hex(16))
    kept = _read_kept(path, create_once(path, lambda: fresh.to_toml().encode()))
    if plan.digest not in (kept.plan.digest, kept.plan.named(None).digest):
        raise StateError(
            f"{folder} holds a run of another plan",
            "go on with the plan.toml in it, or choose another folder for this one",
        )
    if begun and kept.plan.study.id and not any((folder / name).exists() for name in LEDGERS):
        raise StateError(
            f"{folder} holds a study that has begun, but not its ledger",
            "restore the ledger from a copy, or choose another folder for a new study",
        )
    return kept


def _read_kept(path: Path, content: bytes) -> Mechanism:
    try:
        return accept_plan(content.decode(), count_parameters)
    except (PlanError, UnicodeDecodeError) as fault:
        raise StateError(f"{path} is damaged", "restore it from a copy, or choose another folder") from fault


def _end(plan: Plan, folder: Path, outcome: Outcome) -> None:
    """Write the model and log how the run ended.

    Raises:
        RoundFailed, BudgetError: the run released nothing.
    """
    stopped, last = outcome.stopped, outcome.state.round
    if not outcome.releases:
        raise stopped or RoundFailed(
            f"all {last} rounds were lost: nothing was released",
            "look at the devices' own logs; what was spent stays spent",
        )
    write_model(folder / MODEL_FILE, plan, outcome.state)
    write_card(folder, plan, last, outcome.epsilon, outcome.records)
    lost = [str(record.round) for record in outcome.records if record.lost]
    if lost:
        log.warning("%d releases of %d planned: lost round %s", outcome.releases, plan.cohort.rounds, ", ".join(lost))
    if stopped is None:
        log.warning("finished after round %d; the model is in %s", last, folder)
    else:
        log.warning("stopped after round %d of %d: %s", last, plan.cohort.rounds, stopped.what)
        log.warning("hint: %s; the model of round %d is in %s", stopped.hint, last, folder)


def _setting(context: Context, name: str) -> Path:
    value = context.run_config.get(name)
    if not value:
        raise PlanError(f"the run has no {name}", f"give it as --run-config '{name}=\"/path\"'")
    return Path(str(value))


def _evaluate(plan: Plan, context: Context) -> Evaluate | None:
    if not context.run_config.get("test-data"):
        return None
    path = _setting(context, "test-data")
    features, labels = _read_test(path, plan)
    if features.shape[1:] != plan.data.shape or not _known(plan, features, labels):
        raise DataError(
            f"the test data {path} are not of the plan's shape and classes", "give data that fit the plan"
        )
    if not (np.isfinite(features).all() and np.isfinite(labels).all()):
        what = f"the test data {path} hold a value that is missing, infinite, or beyond what float32 can hold"
        raise DataError(what, "fill in or leave out such records: no figure can be measured with them")
    return make_evaluate(plan, features, labels)


def _read_test(path: Path, plan: Plan) -> tuple[Features, Labels]:
    """Return the test records of a .csv or .npz file after the plan's transforms; all of them have to fit it."""
    try:
        if path.suffix.lower() == ".csv":
            found = prepare(read_cut(path), plan.data)
            features, labels, known = found.features, found.labels, found.known
        else:
            features, labels = read_arrays(path, "test data file")
            features, known = adapt(features, plan.data, read_mark(path))
    except Unfit as fault:
        raise DataError(f"the test data {path}: {fault.what}", fault.hint) from None
    if not known.all():
        what = f"record {int(known.argmin()) + 1} of the test data {path} has a cell that the plan has no number for"
        raise DataError(what, "fill in or leave out such records, or extend data.columns")
    return features, labels


def _known(plan: Plan, features: Features, labels: Labels) -> bool:
    """Return whether there are test records, and all of them fit the plan's network and classes."""
    learns = objective_of(plan.model.name, plan.data.shape)
    x, y = torch.from_numpy(features), torch.from_numpy(labels)
    return len(y) > 0 and learns.takes(x, y) and bool(learns.known(x, y, plan.data.classes).all())


def _mechanism(path: Path) -> Mechanism:
    try:
        mechanism = accept_plan(path.read_text("utf-8"), count_parameters)
    except (OSError, UnicodeDecodeError) as fault:
        raise PlanError(f"cannot read the plan {path}", "give the path of a .toml plan on the server") from fault
    _read_weights(mechanism.plan, path.parent)
    check_trainable(mechanism.plan)
    return mechanism


def _read_weights(plan: Plan, folder: Path) -> None:
    """Read the file that the network starts from; a relative path starts from the plan's folder.

    Raises:
        PlanError: there is no such file, or its digest is another one than the plan's.
    """
    if plan.model.start is None:
        return
    if plan.model.weights is None:
        raise PlanError("the plan does not name the file to start from", "set model.weights to its path")
    path = folder / plan.model.weights
    try:
        digest = keep_weights(path)
    except (OSError, ValueError) as fault:
        raise PlanError(f"cannot read the weights {path}", "give the path of a .safetensors file") from fault
    if digest != plan.model.weights_digest:
        what = f"the weights {path} are not the ones whose digest the plan gives"
        raise PlanError(what, f'restore the file, or set model.weights_digest = "{digest}"')
