"""Shared noise when devices drop out: what is charged is what arrived, and below the floor nothing is opened."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.step_journal import MemoryJournal
from bract.client.records import Records
from bract.client.secure_round import SecureRound
from bract.client.terms import Terms
from bract.privacy import Composed, Event, Ledger, Plan, RoundError, Sum, make_plan, mechanism_of
from bract.privacy.accounting.accountant import spent
from bract.privacy.accounting.events import PoissonSampled, Skellam
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.messages import CONSENT, KEYS, OFFER, SHARES, TRAIN, UNMASK
from bract.privacy.secagg.identity import Identity, new_identity, roster_of
from bract.server.round_log import RoundRecord
from bract.server.rounds import train
from bract.server.state import ServerState
from bract.server.training import NullObserver, Outcome, TrainingRun
from bract.simulations.local_grid import FIRST_NODE, LocalGrid
from bract.simulations.seeded import SeededEntropy

DEVICES, LEAST, COLLUDERS, ROUNDS = 10, 7, 3, 3
CLASSES = 1600
COUNT, SIZE = 5 * CLASSES, 8192
"""Parameters of the tiny network for so many classes, and coordinates of its sum."""

NODES = range(FIRST_NODE, FIRST_NODE + DEVICES)
CELLS = [("record", 0.5), ("client", 1.0)]
Silence = Mapping[tuple[str, int], Iterable[int]]
"""Which nodes do not answer a kind of message in a round."""


def shared_plan(unit: str = "record", rate: float = 0.5, shares: str = "floor", **aggregation: Any) -> Plan:
    tables: dict[str, dict[str, Any]] = {
        "data": {"shape": [1, 2, 2], "classes": CLASSES, "clients": DEVICES},
        "model": {"name": "tiny", "parameters": COUNT},
        "training": {"batch_size": 8, "learning_rate": 0.5},
        "cohort": {"rounds": ROUNDS, "size": DEVICES, "minimum": 2, "deadline": 0.01},
        "privacy": {"unit": unit, "noise": "distributed", "shares": shares, "delta": 1e-3, "sampling_rate": rate},
        "aggregation": {"protocol": "secagg", "deadline": 0.01} | aggregation,
    }
    return make_plan(tables, Plan)


def distributed(plan: Plan) -> Distributed:
    mechanism = mechanism_of(plan)
    assert isinstance(mechanism, Distributed)
    return mechanism


def device_variance(plan: Plan, survivors: int) -> float:
    """Variance of what one device leaves in a sum of so many."""
    mechanism = distributed(plan)
    return mechanism.share_variance + sum(mechanism.layers[: mechanism.kept_layers(survivors)])


def inner(event: Event) -> Skellam:
    """The one noised sum of a round."""
    assert isinstance(event, Composed)
    once = event.event.event if isinstance(event.event, PoissonSampled) else event.event
    assert isinstance(once, Skellam)
    return once


class Answering(LocalGrid):
    """A grid whose devices say themselves who they are."""

    def _named(self, message: Message) -> Message:
        return self._app(message, self._contexts[message.metadata.dst_node_id])


@dataclass(repr=False)
class Fleet:
    """Real devices without records, and a server that trains in `folder`; `sums` are those it opened, by round."""

    plan: Plan
    folder: Path
    sums: dict[int, np.ndarray] = field(default_factory=dict)
    kept: dict[int, list[bytes]] = field(default_factory=dict)
    identities: dict[int, Identity] = field(default_factory=lambda: {node: new_identity() for node in NODES})

    @property
    def names(self) -> dict[int, str]:
        """What each node is counted by."""
        return {node: identity.public.hex() for node, identity in self.identities.items()}

    def files(self) -> list[bytes]:
        return [(self.folder / name).read_bytes() for name in ("ledger.jsonl", "checkpoint.bract")]

    def entries(self) -> list[dict[str, Any]]:
        """The charges that are on disk."""
        return [json.loads(line) for line in self.files()[0].splitlines()[1:]]

    def train(self, silent: Silence) -> Outcome:
        """Train from where the folder stands, with devices that were started anew."""
        identities = self.identities
        journals, roster = defaultdict[int, MemoryJournal](MemoryJournal), roster_of(identities.values())
        nothing = Records(torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64))

        def open_device(context: Context) -> Device:
            node = context.node_id
            who = {"identity": identities[node], "roster": roster, "journal": journals[node]}
            return Device(nothing, Terms(), SeededEntropy(11), **who)

        def executor(app: ClientApp, work: Iterable[tuple[Message, Context]]) -> Iterator[Message]:
            for message, context in work:
                number = int(str(message.content.config_records[OFFER]["round"]))
                reply = app(message, context)
                if context.node_id not in silent.get((message.metadata.message_type, number), ()):
                    yield reply

        fleet = self

        class Keeping(NullObserver):
            def started(self, state: ServerState, ledger: Ledger) -> None:
                fleet.kept[state.round] = fleet.files()

            def finished_round(self, record: RoundRecord) -> None:
                fleet.kept[record.round] = fleet.files()

        class Noting(Distributed):
            def release(self, total: Sum, round: int, *rest: Any) -> Any:
                fleet.sums[round] = total.vector
                return super().release(total, round, *rest)

        grid = Answering(make_app(open_device), DEVICES, executor)
        return train(grid, TrainingRun(Noting(self.plan), self.folder, observer=Keeping(), roster=roster))


@pytest.fixture
def fleet(tmp_path: Path) -> Callable[..., Fleet]:
    """A function: the fleet of a plan, `fleet(unit, rate, shares, **aggregation)`."""
    return lambda *cell, **aggregation: Fleet(shared_plan(*cell, **aggregation), tmp_path / "run")


@pytest.mark.parametrize("mode", ["semi-honest", "malicious-server"])
@pytest.mark.parametrize("shares", ["floor", "xnoise"])
@pytest.mark.parametrize(("unit", "rate"), CELLS)
def test_survivors_are_charged_for_the_noise_that_they_brought(
    fleet: Callable[..., Fleet], unit: str, rate: float, shares: str, mode: str
) -> None:
    """None, a tenth and three tenths drop out. Devices have no records: the sums hold the noise alone."""
    run = fleet(unit, rate, shares, mode=mode)
    plan, mechanism = run.plan, distributed(run.plan)
    gone = {1: 0, 2: 1, 3: 3}
    outcome = run.train({(TRAIN, number): NODES[:count] for number, count in gone.items()})
    with Ledger(run.folder / "ledger.jsonl", mechanism.budget, plan.digest) as ledger:
        entries = ledger.entries
    assert [entry.round for entry in entries] == list(gone)
    for entry in entries:
        survivors = DEVICES - gone[entry.round]
        assert entry.clients == tuple(sorted(run.names[node] for node in NODES[gone[entry.round] :]))
        assert (entry.server, entry.released) == tuple(
            mechanism.event(view, survivors) for view in ("server", "released")
        )
        share = device_variance(plan, survivors)
        variance = survivors * share
        assert inner(entry.server).variance == pytest.approx((survivors - COLLUDERS) * share)
        assert entry.released == entry.server
        found = run.sums[entry.round]
        assert found.shape == (SIZE,)
        # six standard errors: a false alarm in 2e-9 of runs, and the devices' seed is fixed
        assert abs(found.var() / variance - 1) < 6 * math.sqrt(2 / SIZE)
        assert abs(found.mean()) < 6 * math.sqrt(variance / SIZE)
    stayed = tuple((mechanism.event("server", DEVICES - count), 1) for count in gone.values())
    assert outcome.epsilon["server"] == pytest.approx(spent(stayed, plan.privacy.delta), rel=1e-3)
    assert outcome.epsilon["released"] == outcome.epsilon["server"]
    assert outcome.epsilon["server"] <= mechanism.cost() * 1.001


def test_layers_of_a_device_that_is_gone_stay_in_the_sum(
    fleet: Callable[..., Fleet],
) -> None:
    """More noise than is charged, never less; the other devices' layers come off."""
    run = fleet(shares="xnoise")
    run.train({(UNMASK, 1): NODES[:2]})
    plan, mechanism = run.plan, distributed(run.plan)
    left = DEVICES * device_variance(plan, DEVICES) + 2 * sum(mechanism.layers)
    assert abs(run.sums[1].var() / left - 1) < 6 * math.sqrt(2 / SIZE)
    assert run.sums[1].var() > 1.05 * DEVICES * device_variance(plan, DEVICES)
    assert inner(mechanism.event("server", DEVICES)).variance == pytest.approx(mechanism.variance)


def test_a_wrong_number_of_seeds_is_passed_over(fleet: Callable[..., Fleet], monkeypatch: pytest.MonkeyPatch) -> None:
    """The round goes on, with all the noise that its devices brought."""
    honest = SecureRound.unmask

    def liar(self: SecureRound, *lists: Any) -> tuple[bytes, bytes]:
        shares, layers = honest(self, *lists)
        return shares, layers + bytes(32)

    monkeypatch.setattr(SecureRound, "unmask", liar)
    run = fleet(shares="xnoise")
    assert run.train({}).stopped is None
    everything = DEVICES * device_variance(run.plan, LEAST)
    for found in run.sums.values():
        assert abs(found.var() / everything - 1) < 6 * math.sqrt(2 / SIZE)


def test_the_floor_is_the_plans_and_above_that_of_masks(fleet: Callable[..., Fleet]) -> None:
    """Shares of seven devices open a sum of ten; noise that is sized for nine needs nine, and nine are enough.

    (Who is silent in the first round has no keys for the second, which is made without it.)
    """
    assert (fleet().plan.least_survivors, fleet().plan.colluders) == (LEAST, COLLUDERS)
    run = fleet(dropouts=0.1)
    assert run.plan.least_survivors == 9
    run.train({(TRAIN, 1): NODES[:1], (TRAIN, 3): NODES[5:6]})
    assert [len(entry["clients"]) for entry in run.entries()] == [9, 9, 9]


@pytest.mark.parametrize(("kind", "number"), [(KEYS, 1), (SHARES, 1), (TRAIN, 2), (CONSENT, 2)])
@pytest.mark.parametrize(("dropouts", "least"), [(0.3, LEAST), (0.1, 9)])
def test_one_dropout_too_many_opens_nothing(
    fleet: Callable[..., Fleet], kind: str, number: int, dropouts: float, least: int
) -> None:
    """Before anyone masked nothing is charged; after, the round is lost and charged as the devices charged it."""
    run = fleet(dropouts=dropouts, mode="malicious-server")
    assert run.plan.least_survivors == least
    gone = NODES[: DEVICES - least + 1]
    with pytest.raises(RoundError, match=f"{DEVICES - len(gone)} of {DEVICES} devices"):
        run.train({(kind, number): gone})
    assert list(run.sums) == list(range(1, number))
    masked = kind in (TRAIN, CONSENT)
    assert [entry["round"] for entry in run.entries()] == list(range(1, number + masked))
    if not masked:
        assert run.files() == run.kept[number - 1]


@pytest.mark.parametrize("kind", [TRAIN, CONSENT])
def test_a_lost_round_is_charged_once_and_the_next_follows(fleet: Callable[..., Fleet], kind: str) -> None:
    run = fleet(dropouts=0.1, mode="malicious-server")
    with pytest.raises(RoundError):
        run.train({(kind, 2): NODES[:2]})
    outcome = run.train({(TRAIN, 3): NODES[:1]})
    assert outcome.stopped is None
    assert [record.round for record in outcome.records if record.lost] == [2]
    assert [(entry["round"], len(entry["clients"])) for entry in run.entries()] == [(1, 10), (2, 10), (3, 9)]
    assert len({entry["release"] for entry in run.entries()}) == 3
    event = mechanism_of(run.plan).event
    stayed = ((event("server", 10), 1), (event("server", 9), 2))
    assert outcome.epsilon["server"] == pytest.approx(spent(stayed, run.plan.privacy.delta), rel=1e-3)
