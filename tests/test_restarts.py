"""A deployment that crashes and is started again: real ClientApps, new run and node numbers, disks that are kept.

What devices spent is read off their own ledgers; the server's must say the same, and neither may pass the budget.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from torch import nn

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.pseudonym import Pseudonym
from bract.client.records import Records
from bract.client.spending import FILE, Spending
from bract.client.terms import Terms
from bract.models import MODELS, count_parameters
from bract.privacy import Ledger, Plan, make_plan, read_plan
from bract.privacy.messages import WHO
from bract.privacy.statement import make_statement, read_ledger
from bract.server import app as server_app
from bract.server.rounds import train
from bract.server.training import Silent, Training
from bract.simulations.grid import LocalGrid

CLIENTS, ROUNDS, SIZE, EPSILON = 8, 8, 2, 4.0


class Crash(Exception):
    """The server's machine went down."""


class CrashAfter(Silent):
    def __init__(self, round: int) -> None:
        self.round = round

    def finished_round(self, record: Any) -> None:
        if record.round == self.round:
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

    def _named(self, message: Message) -> Message:
        assert message.metadata.message_type == WHO
        return self._app(message, self._contexts[message.metadata.dst_node_id])


@dataclass
class Deployment:
    """A server's folder and the devices' state folders."""

    folder: Path
    plan: Plan

    def start(self, run: int, crash: int = 0) -> Any:
        """Run the same command again: what `server/app.py` does with the plan's file and the folder."""
        plan = server_app._named(self.plan, self.folder / "out")
        terms = Terms(max_epsilon=1e6, clear_updates=True)
        records = Records(torch.randn(6, 1, 2, 2), torch.arange(6) % 3)

        def open_device(context: Context) -> Device:
            state = self.folder / f"state-{grid.place[context.node_id]}"
            return Device(records, terms, spending=Spending(state, terms), pseudonym=Pseudonym(state))

        grid = Links(make_app(open_device), run, seed=run)
        observer = CrashAfter(crash) if crash else Silent()
        return train(grid, Training(plan, self.folder / "out", observer=observer, run=run))

    @property
    def devices(self) -> list[int]:
        """How often each device took part, by its own ledger."""
        paths = [self.folder / f"state-{place}" / FILE for place in range(CLIENTS)]
        return [len(read_ledger(path).entries) if path.exists() else 0 for path in paths]

    @property
    def spent(self) -> float:
        """The most that any device spent, by its own ledger, at the plan's delta."""
        readings = [read_ledger(self.folder / f"state-{place}" / FILE) for place in range(CLIENTS)]
        sums = [make_statement(reading, self.plan.budget).spent["charged"] for reading in readings]
        return max(figure for figure in sums if figure is not None)

    @property
    def served(self) -> Counter[str]:
        plan = read_plan((self.folder / "out" / "plan.toml").read_text())
        with Ledger(self.folder / "out" / "ledger.jsonl", plan.budget, plan.digest) as ledger:
            return ledger.participations()


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(shape: tuple[int, ...], classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))

    monkeypatch.setitem(MODELS, "tiny", build)
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def deployment(tmp_path: Path) -> Callable[[str], Deployment]:
    """A function: the deployment of a plan whose noise is sized for two rounds of each client, for a unit."""

    def made(unit: str = "client") -> Deployment:
        tables: dict[str, dict[str, Any]] = {
            "data": {"shape": [1, 2, 2], "classes": 3, "clients": CLIENTS},
            "model": {"name": "tiny"},
            "cohort": {"rounds": ROUNDS, "size": SIZE, "minimum": SIZE, "deadline": 5.0},
            "privacy": {"unit": unit, "noise": "local", "epsilon": EPSILON, "delta": 1e-3, "sampling_rate": 1.0},
        }
        return Deployment(tmp_path, make_plan(tables, Plan, count=count_parameters))

    return made


@pytest.mark.parametrize("unit", ["client", "record"])
@pytest.mark.parametrize("crash", [1, 4, 6])
def test_after_a_crash_between_rounds_the_servers_total_is_that_of_the_worst_device(
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


def test_a_server_that_is_started_again_and_again_gets_no_device_to_take_part_more_often(
    deployment: Callable[[str], Deployment],
) -> None:
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


def test_two_trainings_of_one_plan_are_two_studies(deployment: Callable[[str], Deployment]) -> None:
    run = deployment("client")
    first, again, other = (
        server_app._named(run.plan, run.folder / name).digest for name in ("first", "first", "other")
    )
    assert first == again != other
    assert run.plan.digest not in (first, other)
