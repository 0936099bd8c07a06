"""The round loop: offer, sum, pay, release, step, checkpoint. It cannot tell which Grid it talks to."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
from flwr.serverapp import Grid

from ..models import build, read_flat
from ..privacy import BudgetError, Entry, Event, Ledger, Plan, PlanError, RoundError, StateError, Sum, Unbounded, View
from ..privacy.files import replace_file, storage
from ..privacy.messages import Offer
from .cohort import choose_cohort
from .evaluate import Quality
from .exchange import exchange, nodes
from .metrics import Metrics, RoundRecord
from .optimizer import average, step
from .state import ServerState, read_checkpoint, write_checkpoint
from .training import Outcome, Training


def train(grid: Grid, training: Training) -> Outcome:
    """Run the training from where its folder stands to its last round, or to the end of its budget.

    Raises:
        RoundError: too few devices answered; the state on disk is that of the round before.
        StateError: the state on disk is damaged or of another plan.
        StorageError: the disk is full; the state on disk is that of the round before.
    """
    plan, observer = training.plan, training.observer
    _prepare_folder(training)
    with Ledger(training.ledger, plan.budget, plan.digest) as ledger:
        state = _resume(training, ledger)
        metrics = Metrics(training.metrics, state.round)
        observer.started(state, ledger)
        while state.round < plan.cohort.rounds:
            try:
                state, record = _play_round(grid, training, ledger, state)
            except BudgetError as spent:
                return Outcome(state, tuple(metrics.records), _epsilons(plan, ledger), spent)
            metrics.write(record)
            write_checkpoint(training.checkpoint, state)
            observer.finished_round(record)
        return Outcome(state, tuple(metrics.records), _epsilons(plan, ledger))


def _prepare_folder(training: Training) -> None:
    """Make the folder and keep the resolved plan in it, where a later run finds it."""
    plan_path = training.folder / "plan.toml"
    with storage(training.folder):
        training.folder.mkdir(parents=True, exist_ok=True)
    if not plan_path.exists():
        replace_file(plan_path, training.plan.to_toml().encode())


def _resume(training: Training, ledger: Ledger) -> ServerState:
    """Return the state of the checkpoint, or the state before the first round."""
    state = read_checkpoint(training.checkpoint)
    if state is None:
        state = _first_state(training, ledger)
        write_checkpoint(training.checkpoint, state)
    if state.plan_digest != training.plan.digest:
        raise StateError(
            f"{training.folder} holds a run of another plan", "resume with its own plan.toml, or choose another --out"
        )
    if not ledger.knows(state.ledger_head):
        raise StateError(
            f"{training.ledger} has lost entries that the checkpoint knows of",
            "restore the ledger from a copy; without it nothing more may be released from these data",
        )
    return state


def _first_state(training: Training, ledger: Ledger) -> ServerState:
    plan = training.plan
    seed = int(training.entropy.keystream("model").words(1)[0] >> 1)
    try:
        model = build(plan.model.name, plan.data.shape, plan.data.classes, seed)
    except KeyError:
        raise PlanError(f"there is no model {plan.model.name}", "set model.name to cnn") from None
    except ValueError as fault:
        raise PlanError(str(fault), "set data.shape to match the model") from None
    parameters = read_flat(model)
    return ServerState(0, parameters, parameters, {}, ledger.head, plan.digest)


def _play_round(
    grid: Grid, training: Training, ledger: Ledger, state: ServerState
) -> tuple[ServerState, RoundRecord]:
    """Return the state after one more round, and what the round came to.

    The charge is on disk before a release exists: before the offers go out where devices release by answering,
    before the noise is added where the server releases.
    """
    plan, number, began = training.plan, state.round + 1, time.monotonic()
    release_id = training.entropy.keystream("release", number, state.ledger_head).bytes(16).hex()
    cohort = _cohort(grid, training, ledger.participations(besides=release_id), number)

    def charge(clients: list[int]) -> None:
        ledger.spend(Entry(number, release_id, tuple(clients), plan.server_event, plan.round_event))

    if plan.privacy.noise == "local":
        charge(cohort)
    total, survivors, codes = _collect(grid, training, state, cohort)
    if plan.privacy.noise == "central":
        charge(survivors)
    release = training.releases[plan.cell](total, plan, training.entropy.keystream("noise", number))
    parameters, optimizer = step(plan, state.parameters, state.optimizer, release)
    seconds = state.seconds + time.monotonic() - began
    model = average(plan, number, state.model, parameters)
    after = ServerState(number, parameters, model, optimizer, ledger.head, plan.digest, seconds)
    quality = _evaluate(training, after)
    return after, RoundRecord(
        round=number,
        accuracy=quality and quality.accuracy,
        loss=quality and quality.loss,
        epsilon=_epsilons(plan, ledger),
        cohort=len(cohort),
        survivors=len(survivors),
        codes=codes,
        seconds=round(seconds, 3),
    )


def _cohort(grid: Grid, training: Training, participations: Counter[int], number: int) -> list[int]:
    plan = training.plan
    available = nodes(grid, plan.cohort.size, plan.cohort.deadline)
    keystream = training.entropy.keystream("cohort", number)
    cohort = choose_cohort(available, participations, plan.cohort.size, plan.participations, keystream)
    if len(cohort) < plan.cohort.minimum:
        if len(available) >= plan.cohort.minimum:
            raise BudgetError("every available client took part as often as planned", "plan for more rounds")
        raise RoundError(
            f"{len(available)} devices are connected, the round needs {plan.cohort.minimum}",
            "start more devices, or lower cohort.minimum; then resume",
        )
    return cohort


def _collect(
    grid: Grid, training: Training, state: ServerState, cohort: list[int]
) -> tuple[Sum, list[int], dict[str, int]]:
    """Return the exact sum of the updates, who is in it, and the count of answers by code. Folds as they arrive."""
    plan = training.plan
    offer = Offer(state.round + 1, plan.offered())
    total = np.zeros(len(state.parameters), dtype=np.int64)
    survivors: list[int] = []
    codes: Counter[str] = Counter()
    for answer in exchange(grid, offer, state.parameters, cohort, plan.cohort.deadline):
        codes[str(answer.code)] += 1
        if answer.update is not None:
            total += answer.update
            survivors.append(answer.node)
        training.observer.answered()
    if len(survivors) < plan.cohort.minimum:
        raise _too_few(len(survivors), plan, codes)
    return Sum(total), sorted(survivors), dict(codes)


def _too_few(survivors: int, plan: Plan, codes: Counter[str]) -> RoundError:
    said = ", ".join(f"{count} said {code}" for code, count in sorted(codes.items())) or "none answered"
    return RoundError(
        f"{survivors} of {plan.cohort.size} devices sent an update, the round needs {plan.cohort.minimum} ({said})",
        "look at the devices' own logs; nothing was released, resume when they are ready",
    )


def _evaluate(training: Training, state: ServerState) -> Quality | None:
    cohort, every = training.plan.cohort, training.plan.server.evaluate_every
    due = state.round % every == 0 or state.round == cohort.rounds
    return training.evaluate(state.model) if training.evaluate and due else None


def _epsilons(plan: Plan, ledger: Ledger) -> dict[str, float | None]:
    """Return what the ledger says was spent in each view, None where nothing bounds it."""
    events: dict[View, Event] = {"server": plan.server_event, "released": plan.round_event}
    return {str(view): None if event == Unbounded() else ledger.spent(view) for view, event in events.items()}
