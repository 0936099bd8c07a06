"""The round loop: offer, sum, pay, release, step, checkpoint. It cannot tell which Grid it talks to."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

from flwr.serverapp import Grid

from ..models import build, read_flat
from ..privacy import BudgetError, Entry, Event, Ledger, Plan, PlanError, RoundError, StateError, Unbounded, View
from ..privacy.files import replace_file, storage
from .cohort import choose_cohort
from .evaluate import Quality
from .exchange import nodes
from .metrics import Metrics, RoundRecord
from .optimizer import average, step
from .plain_sum import PlainSum
from .secagg import SecureSum
from .state import ServerState, read_checkpoint, write_checkpoint
from .sums import Call, Collector, Link
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
        collector = _collector(grid, training)
        while state.round < plan.cohort.rounds:
            try:
                state, record = _play_round(grid, training, ledger, collector, state)
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


def _collector(grid: Grid, training: Training) -> Collector:
    link = Link(grid, training.plan, training.observer.answered)
    return SecureSum(link, training.run, training.roster) if training.plan.secure else PlainSum(link)


def _play_round(
    grid: Grid, training: Training, ledger: Ledger, collector: Collector, state: ServerState
) -> tuple[ServerState, RoundRecord]:
    """Return the state after one more round, and what the round came to. What it releases is paid for first."""
    plan, number, began = training.plan, state.round + 1, time.monotonic()
    release_id = training.entropy.keystream("release", number, state.ledger_head).bytes(16).hex()
    past = ledger.participations(besides=release_id)

    def charge(clients: Sequence[int]) -> None:
        ledger.spend(Entry(number, release_id, tuple(sorted(clients)), plan.server_event, plan.round_event))

    def following(cohort: Sequence[int]) -> list[int]:
        return _following(grid, training, past + Counter(cohort), number + 1)

    cohort = collector.prepared(number) or _cohort(grid, training, past, number)
    collected = collector.collect(Call(number, state.parameters, charge, following), cohort)
    release = training.releases[plan.cell](collected.total, plan, training.entropy.keystream("noise", number))
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
        cohort=len(collected.cohort),
        survivors=len(collected.survivors),
        codes=collected.codes,
        seconds=round(seconds, 3),
    )


def _cohort(grid: Grid, training: Training, participations: Counter[int], number: int) -> list[int]:
    """Return the cohort of a round, once enough devices are connected or the deadline has passed."""
    plan = training.plan
    available = nodes(grid, plan.cohort.size, plan.cohort.deadline)
    cohort = _choose(training, available, participations, number)
    if len(cohort) < plan.cohort.minimum:
        if len(available) >= plan.cohort.minimum:
            raise BudgetError("every available client took part as often as planned", "plan for more rounds")
        raise RoundError(
            f"{len(available)} devices are connected, the round needs {plan.cohort.minimum}",
            "start more devices, or lower cohort.minimum; then resume",
        )
    return cohort


def _following(grid: Grid, training: Training, participations: Counter[int], number: int) -> list[int]:
    """Return the cohort of a round to come, of the devices that are connected now; empty after the last round."""
    if number > training.plan.cohort.rounds:
        return []
    return _choose(training, nodes(grid, 0, 0.0), participations, number)


def _choose(training: Training, available: Sequence[int], participations: Counter[int], number: int) -> list[int]:
    plan, keystream = training.plan, training.entropy.keystream("cohort", number)
    return choose_cohort(available, participations, plan.cohort.size, plan.participations, keystream)


def _evaluate(training: Training, state: ServerState) -> Quality | None:
    cohort, every = training.plan.cohort, training.plan.server.evaluate_every
    due = state.round % every == 0 or state.round == cohort.rounds
    return training.evaluate(state.model) if training.evaluate and due else None


def _epsilons(plan: Plan, ledger: Ledger) -> dict[str, float | None]:
    """Return what the ledger says was spent in each view, None where nothing bounds it."""
    events: dict[View, Event] = {"server": plan.server_event, "released": plan.round_event}
    return {str(view): None if event == Unbounded() else ledger.spent(view) for view, event in events.items()}
