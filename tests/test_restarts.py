"""A deployment that crashes and is started again: real ClientApps, new run and node numbers, disks that are kept.

What devices spent is read off their own ledgers; the server's must say the same, and neither may pass the budget.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.disk.pseudonym import Pseudonym
from bract.client.disk.step_journal import DiskJournal
from bract.client.records import Records
from bract.client.terms import Terms
from bract.models import NETWORKS, Network, count_parameters
from bract.privacy import Ledger, Plan, accept_plan, make_plan, mechanism_of
from bract.privacy.ledger.statement import make_statement, read_ledger
from bract.privacy.messages import UNMASK, WHO
from bract.privacy.secagg.identity import Identity, new_identity, roster_of
from bract.server import app as server_app
from bract.server.rounds import train
from bract.server.training import NullObserver, TrainingRun
from bract.simulations.local_grid import LocalGrid

CLIENTS, ROUNDS, SIZE, EPSILON = 8, 8, 2, 4.0


class Crash(Exception):
    """The server's machine went down."""


class CrashAfter(NullObserver):
    def __init__(self, round: int) -> None:
        self.round = round

    def finished_round(self, record: Any) -> None:
        if record.round == self.round:
            raise Crash


class CrashInRound(NullObserver):
    """Crashes as soon as a device has answered in this round: nothing of the round is charged by the server yet."""

    def __init__(self, round: int) -> None:
        self.round, self.now = round, 1

    def started(self, state: Any, ledger: Any) -> None:
        self.now = state.round + 1

    def finished_round(self, record: Any) -> None:
        self.now = record.round + 1

    def answered(self) -> None:
        if self.now == self.round:
            raise Crash


class Links(LocalGrid):
    """A SuperLink after its start: all nodes have new numbers and empty memories, and answer for themselves."""

    def __init__(self, app: Any, run: int, seed: int) -> None:
        super().__init__(app, CLIENTS)
        numbers = random.Random(seed).sample(range(10**6, 10**9), CLIENTS)
        self.place = {number: place for place, number in enumerate(numbers)}
        self._contexts = {
            number: Context(run_id=run, node_id=number, node_config={}, state=RecordDict(), run_config={})
            for number in numbers
        }
        TaskIdentity.run_id = run
        self.breaks = ""

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Go down with the first message of a kind that `breaks` names."""
        sent = list(messages)
        if self.breaks and any(message.metadata.message_type == self.breaks for message in sent):
            raise Crash
        return super().push_messages(sent)

    def _named(self, message: Message) -> Message:
        assert message.metadata.message_type == WHO
        return self._app(message, self._contexts[message.metadata.dst_node_id])


@dataclass
class Deployment:
    """A server's folder and the devices' state folders."""

    folder: Path
    plan: Plan
    identities: list[Identity] = field(default_factory=lambda: [new_identity() for _ in range(CLIENTS)])

    def start(self, run: int, crash: int = 0, observer: NullObserver | None = None, breaks: str = "") -> Any:
        """Run the same command again: what `server/app.py` does with the plan's file and the folder."""
        mechanism = server_app._named(mechanism_of(self.plan), self.folder / "out")
        terms = Terms(max_epsilon=1e6, clear_updates=True, trusted_server=True, max_plans_a_day=99)
        roster = roster_of(self.identities)
        records = Records(torch.randn(6, 1, 2, 2), torch.arange(6) % 3)

        def open_device(context: Context) -> Device:
            place = grid.place[context.node_id]
            state = self.folder / f"state-{place}"
            return Device(
                records,
                terms,
                identity=self.identities[place],
                roster=roster,
                journal=DiskJournal(state),
                spending=OwnerLedger(state, terms),
                pseudonym=Pseudonym(state),
            )

        grid = Links(make_app(open_device), run, seed=run)
        grid.breaks = breaks
        observer = observer or (CrashAfter(crash) if crash else NullObserver())
        secured = roster if mechanism.plan.secure else None
        return train(grid, TrainingRun(mechanism, self.folder / "out", observer=observer, run=run, roster=secured))

    @property
    def devices(self) -> list[int]:
        """How often each device took part, by its own ledger."""
        paths = [self.folder / f"state-{place}" / LEDGER_FILE for place in range(CLIENTS)]
        return [len(read_ledger(path).entries) if path.exists() else 0 for path in paths]

    @property
    def spent(self) -> float:
        """The most that any device spent, by its own ledger, at the plan's delta."""
        readings = [read_ledger(self.folder / f"state-{place}" / LEDGER_FILE) for place in range(CLIENTS)]
        sums = [make_statement(reading, mechanism_of(self.plan).budget).spent["charged"] for reading in readings]
        return max(figure for figure in sums if figure is not None)

    @property
    def served(self) -> Counter[str]:
        mechanism = accept_plan((self.folder / "out" / "plan.toml").read_text())
        with Ledger(self.folder / "out" / "ledger.jsonl", mechanism.budget, mechanism.plan.digest) as ledger:
            return ledger.participations()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    monkeypatch.setitem(NETWORKS, "tiny", Network("tiny", build))
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def deployment(tmp_path: Path) -> Callable[[str], Deployment]:
    """A function: the deployment of a plan whose noise is sized for two rounds of each client, for a unit."""

    def made(unit: str = "client", noise: str = "local", secure: bool = False) -> Deployment:
        tables: dict[str, dict[str, Any]] = {
            "data": {"shape": [1, 2, 2], "classes": 3, "clients": CLIENTS},
            "model": {"name": "tiny"},
            "cohort": {"rounds": ROUNDS, "size": SIZE, "minimum": SIZE, "deadline": 5.0},
            "privacy": {"unit": unit, "noise": noise, "epsilon": EPSILON, "delta": 1e-3, "sampling_rate": 1.0},
        }
        if secure:
            tables["cohort"] |= {"size": 4, "minimum": 4, "rounds": ROUNDS // 2}
            tables["aggregation"] = {"protocol": "secagg", "colluders": 0.25, "dropouts": 0.0, "deadline": 5.0}
        return Deployment(tmp_path, make_plan(tables, Plan, count=count_parameters))

    return made


@pytest.mark.parametrize("unit", ["client", "record"])
@pytest.mark.parametrize("crash", [1, 4, 6])
def test_a_crash_between_rounds_leaves_the_worst_total(
    deployment: Callable[[str], Deployment], unit: str, crash: int
) -> None:
    """Both count on from what is on their disks: the crash comes when the round is in the checkpoint."""
    run = deployment(unit)
    assert run.plan.participations == 2
    with pytest.raises(Crash):
        run.start(run=11, crash=crash)
    outcome = run.start(run=2**63 + 5)
    assert max(run.devices) == 2
    assert sorted(run.served.values()) == sorted(run.devices)
    assert outcome.epsilon["server"] == pytest.approx(run.spent, rel=1e-9)
    assert run.spent <= EPSILON * (1 + 1e-9)


def test_a_restarted_server_gets_no_device_in_more_often(
    deployment: Callable[[str], Deployment],
) -> None:
    """However often it is started again."""
    run = deployment("client")
    for number in range(1, 12):
        try:
            outcome = run.start(run=number, crash=number)
        except Crash:
            continue
    assert outcome.stopped is not None or outcome.state.round == ROUNDS
    assert max(run.devices) == 2
    assert sorted(run.served.values()) == sorted(run.devices)
    assert run.spent <= EPSILON * (1 + 1e-9)


SECURE = [(noise, True) for noise in ("local", "central", "distributed")]


@pytest.mark.parametrize(("noise", "secure"), [("local", False), ("central", False), *SECURE])
@pytest.mark.parametrize("cut", ["after a round", "amid answers"])
def test_after_a_crash_the_server_counts_no_device_too_rarely(
    deployment: Callable[..., Deployment], noise: str, secure: bool, cut: str
) -> None:
    """A device that answered has paid; a server that went down before it paid itself must not forget it."""
    run = deployment("client", noise, secure)
    observer = CrashAfter(2) if cut == "after a round" else CrashInRound(2)
    with pytest.raises(Crash):
        run.start(run=11, observer=observer)
    before = run.devices
    assert sum(before) > (run.plan.cohort.size if cut == "amid answers" else 0)
    outcome = run.start(run=2**63 + 5)
    assert max(run.devices) <= run.plan.participations
    assert sum(run.served.values()) >= sum(run.devices)
    assert max(run.served.values()) >= max(run.devices)
    assert run.spent <= EPSILON * (1 + 1e-9)
    assert all(figure is None or figure <= EPSILON * (1 + 1e-9) for figure in outcome.epsilon.values())


def test_a_round_cut_off_after_its_charge_is_charged_once(
    deployment: Callable[..., Deployment],
) -> None:
    """Between charge and opening."""
    run = deployment("client", "distributed", True)
    with pytest.raises(Crash):
        run.start(run=11, breaks=UNMASK)
    assert sum(run.served.values()) == sum(run.devices) == 4
    run.start(run=12, observer=CrashAfter(99))
    assert sum(run.served.values()) == sum(run.devices)


def test_two_trainings_of_one_plan_are_two_studies(deployment: Callable[[str], Deployment]) -> None:
    run = deployment("client")
    mechanism = mechanism_of(run.plan)
    first = server_app._named(mechanism, run.folder / "first").plan.digest
    (run.folder / "first" / "ledger.jsonl").touch()  # a run that began has one; without it its plan is refused
    again, other = (server_app._named(mechanism, run.folder / name).plan.digest for name in ("first", "other"))
    assert first == again != other
    assert run.plan.digest not in (first, other)
