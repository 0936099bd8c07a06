"""Devices that keep a ledger, seen from the server: a refusal is a code that is counted, never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from flwr.app import Context
from flwr.supercore.task_identity import TaskIdentity

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.disk.device_ledger import LEDGER_FILE, OwnerLedger
from bract.client.records import Records
from bract.client.terms import Terms
from bract.privacy import Plan, RoundError, mechanism_of
from bract.privacy.ledger.statement import read_ledger
from bract.server.rounds import train
from bract.server.training import TrainingRun
from bract.simulations.local_grid import FIRST_NODE, RUN_ID, LocalGrid
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
CLIENTS = 3


@pytest.fixture
def plan(make: Make) -> Plan:
    """Three rounds that three devices take part in, whose cost is all but epsilon 2."""
    return make(
        data={"clients": CLIENTS},
        cohort={"size": CLIENTS, "minimum": 2},
        privacy={"noise": "local", "epsilon": 2.0, "noise_multiplier": None},
    )


def devices(folder: Path, limits: list[float], run: int) -> LocalGrid:
    """Devices with ledgers in `folder` and these limits, started anew, and connected to a server's run."""
    generator = torch.Generator().manual_seed(0)
    records = Records(torch.randn(12, 1, 2, 2, generator=generator), torch.arange(12) % 3)

    def open_device(context: Context) -> Device:
        place = context.node_id - FIRST_NODE
        terms = Terms(max_epsilon=limits[place], clear_updates=True)
        return Device(records, terms, spending=OwnerLedger(folder / str(place), terms))

    grid = LocalGrid(make_app(open_device), CLIENTS)
    TaskIdentity.run_id = run
    return grid


def go(plan: Plan, grid: LocalGrid, folder: Path, seed: int) -> Any:
    return train(grid, TrainingRun(mechanism_of(plan), folder, entropy=SeededEntropy(seed)))


def twin(plan: Plan) -> Plan:
    """A plan that costs the same, of another study."""
    return plan.model_copy(update={"data": plan.data.model_copy(update={"seed": 2})})


def rounds(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_devices_refuse_what_passes_their_limit(plan: Plan, tmp_path: Path) -> None:
    """After a restart, and at another server."""
    limits = [2.0] * CLIENTS
    outcome = go(plan, devices(tmp_path / "state", limits, RUN_ID), tmp_path / "first", 1)
    assert outcome.state.round == 3
    with pytest.raises(RoundError) as caught:
        go(twin(plan), devices(tmp_path / "state", limits, 77), tmp_path / "second", 2)
    assert caught.value.what == "0 of 3 devices sent an update, the round needs 2 (3 said refused)"
    charges = [len(read_ledger(tmp_path / "state" / str(place) / LEDGER_FILE).entries) for place in range(CLIENTS)]
    assert charges == [3, 3, 3]


def test_a_round_goes_on_without_a_device_that_refuses(plan: Plan, tmp_path: Path) -> None:
    """The device is counted by its code."""
    limits = [2.0] * CLIENTS
    go(plan, devices(tmp_path / "state", limits, RUN_ID), tmp_path / "first", 1)
    go(twin(plan), devices(tmp_path / "state", [2.0, 10.0, 10.0], 77), tmp_path / "second", 2)
    said = rounds(tmp_path / "second")
    assert [line["codes"] for line in said] == [{"ok": 2, "refused": 1}] * 3
    assert [line["survivors"] for line in said] == [2, 2, 2]


def test_a_second_training_gets_what_the_limit_has_left(plan: Plan, tmp_path: Path) -> None:
    """It gets as many rounds."""
    first, second = tmp_path / "first", tmp_path / "second"
    go(plan, devices(tmp_path / "state", [2.6] * CLIENTS, RUN_ID), first, 1)
    with pytest.raises(RoundError, match="3 said refused"):
        go(twin(plan), devices(tmp_path / "state", [2.6] * CLIENTS, 77), second, 2)
    done = sum(not line["lost"] for line in rounds(second))
    assert 0 < done < 3
    entries = read_ledger(tmp_path / "state" / "0" / LEDGER_FILE).entries
    assert len(entries) == 3 + done
