"""The round loop: offer, sum, charge, release, step, checkpoint. It works with any Grid."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from flwr.serverapp import Grid

from ..models import build, read_flat
from ..privacy import (
    BudgetError,
    DivergedError,
    Entry,
    Event,
    Ledger,
    Mechanism,
    Plan,
    PlanError,
    Release,
    StateError,
    Sum,
    Unbounded,
    View,
)
from ..privacy.mechanisms.change_clip import next_scale
from ..privacy.mechanisms.correlation import Correlation
from ..privacy.storage import replace_file, storage
from .aggregation.base import Aggregator, DeviceLink, RoundInput
from .aggregation.plain import PlainSum
from .aggregation.secure import SecureSum
from .answers import RoundFailed
from .cohort import Participations, choose_next_cohort, gather_cohort
from .directory import Directory
from .evaluation.evaluate import Quality
from .evaluation.gan_quality import refine
from .optimizer import average, step
from .retries import Retries
from .round_log import Metrics, RoundRecord
from .started_round import StartedRound, forget_start, record_start, settle_interrupted
from .state import ServerState, read_checkpoint, write_checkpoint
from .training import Outcome, TrainingRun

log = logging.getLogger("bract.server")


def train(grid: Grid, training: TrainingRun) -> Outcome:
    """Run the training from the state in its folder to its last round, or to the end of its budget.

    Raises:
        RoundFailed: too few devices answered in all tries; the state on disk is intact.
        DivergedError: a step gave parameters that are not finite; the state on disk is the one before this round.
        StateError: the state on disk is damaged or belongs to another plan.
        StorageError: the disk is full; the state on disk is the one before this round.
    """
    plan, observer = training.plan, training.observer
    _prepare_folder(training)
    with training.open_ledger() as ledger:
        unpaid = _settle(training, ledger)
        state = _resume(training, ledger)
        metrics = Metrics(training.metrics, state.round)
        observer.started(state, ledger)
        directory = Directory(grid, training.mechanism, training.run if training.roster else None, observer.said)
        collector = _collector(grid, training, directory)
        tries = Retries(training.pauses, observer.said)
        while state.round < plan.cohort.rounds:
            try:
                if unpaid:
                    raise unpaid
                state, record, fault = _try_round(directory, training, ledger, collector, state, tries)
            except BudgetError as spent:
                return Outcome(
                    state, tuple(metrics.records), _epsilons(training.mechanism, ledger), spent.with_traceback(None)
                )
            if record is not None:
                metrics.write(record)
                write_checkpoint(training.checkpoint, state)
                observer.finished_round(record)
            if fault is None:
                tries.succeeded()
            else:
                tries.failed(fault, state.round + (record is None), plan.cohort.rounds)
        return Outcome(state, tuple(metrics.records), _epsilons(training.mechanism, ledger))


def _prepare_folder(training: TrainingRun) -> None:
    """Create the folder and store the resolved plan in it for later runs."""
    plan_path = training.folder / "plan.toml"
    with storage(training.folder):
        training.folder.mkdir(parents=True, exist_ok=True)
    if not plan_path.exists():
        replace_file(plan_path, training.plan.to_toml().encode())


def _settle(training: TrainingRun, ledger: Ledger) -> BudgetError | None:
    """Charge a round that a crash interrupted; return the error if the budget does not cover it: the run ends."""
    try:
        if started := settle_interrupted(training, ledger):
            count = len(started.clients)
            training.observer.said(
                f"round {started.round} was interrupted: {count} devices that may have taken part are charged"
            )
        return None
    except BudgetError as spent:
        return spent.with_traceback(None)


def _resume(training: TrainingRun, ledger: Ledger) -> ServerState:
    """Return the state of the checkpoint, or the state before the first round."""
    state = read_checkpoint(training.checkpoint)
    if state is None:
        state = _first_state(training, ledger)
        write_checkpoint(training.checkpoint, state)
    if state.plan_digest != training.plan.digest:
        raise StateError(
            f"{training.folder} holds a run of another plan",
            "go on with the plan.toml in it, or choose another folder for this one",
        )
    if not ledger.knows(state.ledger_head):
        raise StateError(
            f"{training.ledger} has lost entries that the checkpoint knows of",
            "restore the ledger from a copy; without it nothing more may be released from these data",
        )
    return _with_sound_noise(training, ledger, state)


def _with_sound_noise(training: TrainingRun, ledger: Ledger, state: ServerState) -> ServerState:
    """Return the state; its correlated noise is restarted if the ledger has a release that the state lacks.

    A release that a crash lost may have been seen. If its noise were reused, more would be revealed than was charged.
    """
    if state.noise is None or not ledger.since(state.ledger_head, without=_release_id(training, state)):
        return state
    return replace(state, noise=Correlation(state.noise.weights), block=ledger.head)


def _first_state(training: TrainingRun, ledger: Ledger) -> ServerState:
    plan = training.plan
    seed = int(training.entropy.keystream("model").words(1)[0] >> 1)
    try:
        model = build(plan.model.name, plan.data.shape, plan.data.classes, seed, plan.model.start)
    except KeyError:
        raise PlanError(f"there is no model {plan.model.name}", "set model.name to cnn") from None
    except ValueError as fault:
        raise PlanError(str(fault), getattr(fault, "hint", "set data.shape to match the model")) from None
    parameters = read_flat(model)
    state = ServerState(0, parameters, parameters, {}, ledger.head, plan.digest)
    noise = training.mechanism.fresh_correlation(len(parameters))
    return state if noise is None else replace(state, noise=noise, block=ledger.head)


def _release_id(training: TrainingRun, state: ServerState) -> str:
    """Return the release's name in the ledger for the round after a state; with a seed, it is deterministic."""
    return training.entropy.keystream("release", state.round + 1, state.ledger_head, state.block).bytes(16).hex()


def _collector(grid: Grid, training: TrainingRun, directory: Directory) -> Aggregator:
    observer = training.observer

    def name(node: int) -> str:
        return f"device {directory.name(node)[:12]}"

    link = DeviceLink(grid, training.mechanism, observer.answered, observer.said, training.pauses, name)
    if not training.plan.secure:
        return PlainSum(link)
    return SecureSum(link, training.run, training.roster, directory.name)


def _try_round(
    directory: Directory,
    training: TrainingRun,
    ledger: Ledger,
    collector: Aggregator,
    state: ServerState,
    tries: Retries,
) -> tuple[ServerState, RoundRecord | None, RoundFailed | None]:
    """Return the next state, the record of the round, and the error if it failed.

    The record is None if the round may be tried again under its number.
    """
    try:
        return (*_play_round(directory, training, ledger, collector, state, tries), None)
    except RoundFailed as fault:
        if not fault.lost:
            forget_start(training)
            return state, None, fault
        return (*_lose_round(directory, training, ledger, state, fault), fault)


def _lose_round(
    directory: Directory, training: TrainingRun, ledger: Ledger, state: ServerState, fault: RoundFailed
) -> tuple[ServerState, RoundRecord]:
    """Return the state after a lost round, which released nothing, and its record.

    The devices that took part charged the round and will not repeat it. So the round is charged here too, and the
    next round has the next number. Correlated noise is restarted, because this round adds no noise but still counts
    in the separation of a client's rounds.
    """
    mechanism, number = training.mechanism, state.round + 1
    if not fault.paid:
        name = _release_id(training, state)
        clients = tuple(directory.names(fault.took_part))
        ledger.spend(Entry(number, name, clients, mechanism.server_event, mechanism.round_event))
    after = replace(state, round=number, ledger_head=ledger.head)
    if state.noise is not None:
        after = replace(after, noise=Correlation(state.noise.weights), block=ledger.head)
    return after, RoundRecord(
        round=number,
        loss=None,
        figures=None,
        epsilon=_epsilons(training.mechanism, ledger),
        cohort=fault.cohort,
        survivors=fault.survivors,
        codes=fault.answers.codes,
        seconds=round(state.seconds, 3),
        lost=True,
    )


def _play_round(
    directory: Directory,
    training: TrainingRun,
    ledger: Ledger,
    collector: Aggregator,
    state: ServerState,
    tries: Retries,
) -> tuple[ServerState, RoundRecord]:
    """Return the state after one more round, and its record. The release is charged before the sum is opened."""
    plan, number, began = training.plan, state.round + 1, time.monotonic()
    past = _past(plan, ledger, state, _release_id(training, state))
    cohort = collector.prepared(number) or gather_cohort(directory, training, past, number, tries)
    record_start(training, StartedRound(number, tuple(directory.names(cohort)), ledger.head))
    summed = collector.collect(_round_input(directory, training, ledger, past, state), cohort)
    after = _next_state(training, ledger, state, summed.total)
    after = replace(after, seconds=state.seconds + time.monotonic() - began)
    quality = _evaluate(training, after)
    return after, RoundRecord(
        round=number,
        loss=quality and quality.loss,
        figures=quality and quality.figures,
        epsilon=_epsilons(training.mechanism, ledger),
        cohort=len(summed.cohort),
        survivors=len(summed.survivors),
        codes=summed.codes,
        seconds=round(after.seconds, 3),
        clip_norm=state.scale * plan.privacy.clip_norm if plan.adaptive else None,
        opening=summed.opening,
    )


def _round_input(
    directory: Directory, training: TrainingRun, ledger: Ledger, past: Participations, state: ServerState
) -> RoundInput:
    """Return what the round after a state needs: its parameters, its charge, and the choice of the next cohort."""
    number, release_id = state.round + 1, _release_id(training, state)

    def charge(nodes: Sequence[int]) -> None:
        clients = directory.names(nodes)
        past.check(training.plan, number, clients)
        server, released = (training.mechanism.event(view, len(clients)) for view in ("server", "released"))
        ledger.spend(Entry(number, release_id, tuple(clients), server, released))

    def next_cohort(nodes: Sequence[int]) -> list[int]:
        return choose_next_cohort(directory, training, past.then(number, directory.names(nodes)), number + 1)

    return RoundInput(number, state.parameters, charge, next_cohort, state.scale)


def _next_state(training: TrainingRun, ledger: Ledger, state: ServerState, total: Sum) -> ServerState:
    """Return the state after the release of a round's sum, which is charged, and the optimizer's step on it.

    Raises:
        DivergedError: the step gave parameters that are not finite.
    """
    plan, number = training.plan, state.round + 1
    release, noise = _release(training, state, total)
    parameters, optimizer = step(plan, state.parameters, state.optimizer, release.times(state.scale), number)
    parameters = refine(plan, state.parameters, parameters, training.entropy.keystream("refine", number))
    if not np.isfinite(parameters).all():
        raise _diverged(number)
    return replace(
        state,
        round=number,
        parameters=parameters,
        model=average(plan, number, state.model, parameters),
        optimizer=optimizer,
        ledger_head=ledger.head,
        scale=next_scale(plan, state.scale, release),
        noise=noise,
    )


def _diverged(number: int) -> DivergedError:
    return DivergedError(
        f"after round {number} the model is no longer finite: it diverged",
        "plan a lower learning rate (training.learning_rate, server.learning_rate) and start in another folder; "
        "what was spent stays spent",
    )


def _past(plan: Plan, ledger: Ledger, state: ServerState, release_id: str) -> Participations:
    block = ledger.since(state.block, without=release_id) if plan.correlated else ()
    return Participations(
        ledger.participations(without=release_id), tuple((entry.round, entry.clients) for entry in block)
    )


def _release(training: TrainingRun, state: ServerState, total: Sum) -> tuple[Release, Correlation | None]:
    """Return the release of the round after a state, and the correlated noise to store for later rounds."""
    number = state.round + 1
    grid = training.mechanism.grid
    if crowded := training.mechanism.crowded(total):
        log.warning(
            "round %d: %d of %d coordinates of the sum are at the ends of its range, so others wrapped\n"
            "hint: plan aggregation.range = %.2g; what was spent stays spent",
            number,
            crowded,
            len(total.vector),
            4 * grid.bound * grid.step / training.plan.privacy.clip_norm,
        )
    return training.mechanism.release(total, number, training.entropy.keystream("noise", number), state.noise)


def _evaluate(training: TrainingRun, state: ServerState) -> Quality | None:
    cohort, every = training.plan.cohort, training.plan.server.evaluate_every
    due = state.round % every == 0 or state.round == cohort.rounds
    return training.evaluate(state.model) if training.evaluate and due else None


def _epsilons(mechanism: Mechanism, ledger: Ledger) -> dict[str, float | None]:
    """Return the epsilon that the ledger reports in each view, None if it is infinite."""
    events: dict[View, Event] = {"server": mechanism.server_event, "released": mechanism.round_event}
    return {str(view): None if event == Unbounded() else ledger.spent(view) for view, event in events.items()}
