"""Simulates a federation: the server's round loop on a LocalGrid, with the same ClientApp as a real device."""

from __future__ import annotations

import hashlib
import resource
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flwr.app import Context

from ..client.app import make_app
from ..client.device import Device
from ..client.disk.step_journal import MemoryJournal
from ..client.records import torch_device
from ..client.terms import Terms
from ..client.train import try_training
from ..privacy import DivergedError, Ledger
from ..privacy.secagg.identity import new_identity, roster_of
from ..server.answers import RoundFailed
from ..server.evaluation.evaluate import make_evaluate
from ..server.evaluation.metrics import Score, score_of
from ..server.model_file import MODEL_FILE, write_card, write_model, write_released
from ..server.round_log import RoundRecord
from ..server.rounds import train
from ..server.state import ServerState
from ..server.training import NullObserver, Observer, Outcome, TrainingRun
from . import same_data
from .forgetting import forget_rounds
from .local_grid import EXECUTORS, FIRST_NODE, LocalGrid
from .population import Population, make_population
from .report.run_report import Baseline, write_report
from .same_data import check_data, forget_data, keep_data
from .study import Study, accept_study, baseline_of, mechanism_for
from .trained.evaluate import Evaluation, evaluate
from .trained.run import read_trained
from .unprotected import guarantee, open_contribution


@dataclass(frozen=True)
class Result:
    """The result of a simulation: the object that `--json` prints. An epsilon or delta without a guarantee is None.

    Loss and figures are from the last test of the model. Without a test, or if training diverged, the loss is None
    and there are no figures.
    """

    rounds: int
    loss: float | None
    figures: dict[str, float]
    epsilon: dict[str, float | None]
    delta: float | None
    unit: str
    noise: str
    clients: int
    records: int
    seconds: float
    updates_per_second: float
    peak_rss_bytes: int
    out: str
    stopped: str | None = None

    @property
    def score(self) -> Score | None:
        """The metric that compares models; None if it was not measured."""
        return score_of(self.figures)

    @property
    def accuracy(self) -> float | None:
        """The fraction of correctly classified test records, or tokens; None for other tasks."""
        return self.figures.get("accuracy")


class _Restoring:
    """Restores the devices' participation history before the first round, and forwards all events to an observer."""

    def __init__(
        self,
        grid: LocalGrid,
        study: Study,
        observer: Observer,
        journals: list[MemoryJournal],
        keep: Callable[[], None],
    ) -> None:
        self._grid, self._study, self._observer = grid, study, observer
        self._journals, self._keep = journals, keep
        self.updates = 0

    def started(self, state: ServerState, ledger: Ledger) -> None:
        past = (entry.clients for entry in ledger.entries if entry.round <= state.round)
        self._keep()
        self._grid.restore(Counter(client for clients in past for client in clients), state.round, self._study)
        self._observer.started(state, ledger)

    def answered(self) -> None:
        self.updates += 1
        self._observer.answered()

    def said(self, line: str) -> None:
        self._observer.said(line)

    def finished_round(self, record: RoundRecord) -> None:
        forget_rounds(self._journals)
        self._observer.finished_round(record)


def simulate(
    study: Study,
    folder: Path,
    observer: Observer | None = None,
    population: Population | None = None,
    ledger: Path | None = None,
    baseline: bool = False,
) -> Result:
    """Start or resume the study in `folder`, and write the model and the report there.

    With `population`, the study's data are not loaded again. `ledger` is the ledger of a population; the run is then
    charged to it instead of to a ledger of its own. With `baseline` the plan also runs without noise, in the folder
    `baseline`, and the report shows both.

    Raises:
        BractError: bad data, damaged state, or a full disk; the files in the folder stay usable.
    """
    try_training(study)
    population = population or make_population(study, torch_device())
    kept = folder / same_data.DATA_DIGEST_FILE
    check_data(kept, population.fingerprint)
    journals = [MemoryJournal() for _ in range(population.clients if study.secure else 0)]
    app = make_app(_opener(study, population, journals))
    grid = LocalGrid(app, population.clients, EXECUTORS[study.simulation.executor])
    keep = partial(keep_data, kept, population.fingerprint)
    restoring = _Restoring(grid, study, observer or NullObserver(), journals, keep)
    training = TrainingRun(
        mechanism_for(study),
        folder,
        evaluate=make_evaluate(study, population.test.features, population.test.labels),
        observer=restoring,
        entropy=study.entropy,
        shared_ledger=ledger,
        population=_population_name(study),
    )
    began = time.monotonic()
    try:
        outcome = train(grid, training)
    except (DivergedError, RoundFailed):
        write_released(training)
        raise
    finally:  # or the error of an unfinished round would keep its secrets alive
        grid.forget()
    seconds = time.monotonic() - began
    write_model(folder / MODEL_FILE, study, outcome.state)
    write_card(folder, study, outcome.state.round, outcome.epsilon, outcome.records, *_claim(study))
    result = _result(study, population, outcome, folder, seconds, restoring.updates)
    unprotected = run_baseline(study, folder, population) if baseline else None
    quality = _evaluated(folder, population)
    write_report(folder / "report.html", study, outcome, result.records, quality, unprotected)
    forget_data(kept)
    return result


def run_baseline(study: Study, folder: Path, population: Population) -> Baseline:
    """Run the study without noise in `folder`/baseline, and return its last figures.

    Raises:
        StorageError: the disk is full.
    """
    plain = baseline_of(study, len(population.records))
    try:
        result = simulate(plain, folder / "baseline", population=population)
    except DivergedError:
        return Baseline(None, plain.privacy.clip is not None)
    return Baseline(result.score, plain.privacy.clip is not None)


def _evaluated(folder: Path, population: Population) -> Evaluation | None:
    """Return the model's quality on the test records by class; None if the network predicts no classes."""
    trained = read_trained(folder)
    if trained.learns.name != "classification":
        return None
    return evaluate(trained, population.test)


def _claim(study: Study) -> tuple[list[str], str | None]:
    """Return what the model's card says besides the plan: its cautions, and the guarantee if it is not the plan's."""
    if not study.protected:
        return [], guarantee(study)
    seed = study.simulation.seed
    seeded = "This run is seeded: whoever knows the seed can subtract the noise. Do not release the model."
    return ["This was a simulation: whoever ran it held all records.", *([] if seed is None else [seeded])], None


def _population_name(study: Study) -> str:
    """Return the population's name in a shared ledger: a digest of the [data] table with its full path."""
    path = None if study.data_path is None else str(study.data_path)
    data = study.data.model_copy(update={"path": path})
    later = {key for key, value in data if value is None and key != "path"}
    return hashlib.sha256(data.model_dump_json(exclude={"records", *later}).encode()).hexdigest()


def _opener(study: Study, population: Population, journals: list[MemoryJournal]):
    p = study.privacy
    terms = Terms(
        max_epsilon=p.epsilon,
        max_delta=p.delta,
        trusted_server=True,
        clear_updates=True,
        min_round_epsilon=0,
        models=(study.model.name,),
    )
    identities = [new_identity() for _ in journals]
    roster, entropy = roster_of(identities), study.entropy
    accept = partial(accept_study, masks=study.simulation.masks)

    def open_device(context: Context) -> Device:
        client = context.node_id - FIRST_NODE
        device = Device(population.client(client), terms, entropy, accept, open_contribution)
        if not study.secure:
            return device
        return replace(device, identity=identities[client], roster=roster, journal=journals[client])

    return open_device


def _result(
    study: Study, population: Population, outcome: Outcome, folder: Path, seconds: float, updates: int
) -> Result:
    tested = next((r for r in reversed(outcome.records) if r.figures is not None), None)
    return Result(
        rounds=outcome.state.round,
        loss=tested.loss if tested else None,
        figures=dict(tested.figures or {}) if tested else {},
        epsilon=dict(outcome.epsilon),
        delta=study.privacy.delta if study.protected else None,
        unit=study.privacy.unit,
        noise=study.privacy.noise,
        clients=population.clients,
        records=len(population.records),
        seconds=round(seconds, 3),
        updates_per_second=round(updates / seconds, 3),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        out=str(folder),
        stopped=outcome.stopped.what if outcome.stopped else None,
    )


def to_json(result: Result) -> dict[str, Any]:
    """Return the result as plain values; it has `stopped` only if the run ended early."""
    values = {"rounds": result.rounds, "accuracy": result.accuracy, **vars(result)}
    if result.stopped is None:
        del values["stopped"]
    return values
