"""The guarantees, each through the code that a real round runs. `test_sabotage.py` breaks them one by one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from bract.client.app import make_app
from bract.client.device import Device
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import Task, contribution
from bract.models import build, count_parameters, read_flat
from bract.privacy import (
    Clipped,
    Contribution,
    Keystream,
    Plan,
    PlanError,
    Sum,
    SystemEntropy,
    make_plan,
    mechanism_of,
    override,
    read_tables,
)
from bract.privacy.mechanisms import distributed, local
from bract.privacy.mechanisms.local import Local
from bract.privacy.messages import OFFER, PARAMETERS, RAW
from bract.privacy.server_view import ANSWER, UPDATE
from bract.server import app as server_app
from bract.simulations.local_grid import LocalGrid
from bract.simulations.run import simulate
from bract.simulations.seeded import SeededEntropy
from bract.simulations.study import make_study

SHAPE, CLASSES = (1, 12, 12), 3
PLACES = ["central", "distributed", "local"]
MASKLESS = ["aggregation.protocol=secagg", "simulation.masks=false"]


def plan(noise: str, engine: str = "auto", **privacy: float | str) -> Plan:
    devices, protocol = (2, "secagg") if noise == "distributed" else (1, "sum")
    tables = {
        "data": {"shape": list(SHAPE), "classes": CLASSES, "clients": devices},
        "training": {"batch_size": 8, "engine": engine},
        "cohort": {"rounds": 4, "size": devices},
        "privacy": {"noise": noise, "sampling_rate": 1.0, **privacy},
        "aggregation": {"protocol": protocol},
    }
    return make_plan(tables, Plan, count=count_parameters)


def records(count: int, scale: float = 1.0) -> Records:
    generator = torch.Generator().manual_seed(count)
    features = scale * torch.randn(count, *SHAPE, generator=generator)
    return Records(features, torch.arange(count) % CLASSES)


def task(which: Plan, data: Records) -> Task:
    parameters = read_flat(build("cnn", SHAPE, CLASSES, seed=0))
    return Task(mechanism_of(which), parameters, data, SystemEntropy().keystream)


@pytest.mark.parametrize("scale", [1.0, 1e4, math.inf])
@pytest.mark.parametrize("engine", ["auto", "opacus"])
def test_one_record_moves_a_sum_by_at_most_the_sensitivity(engine: str, scale: float) -> None:
    which = plan("central", engine, clip_norm=0.1)
    data, extra = records(9), records(1, scale)
    more = Records(torch.cat([data.features, extra.features]), torch.cat([data.labels, extra.labels]))
    without = contribution(task(which, data)).vector
    with_it = contribution(task(which, more)).vector
    moved = float(np.linalg.norm((with_it - without).astype(np.float64))) * mechanism_of(which).grid.step
    assert moved <= mechanism_of(which).sensitivity(len(without))
    assert moved > 0 or not math.isfinite(scale)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device adds no noise to what it sends."""
    for room, name in ((local, "gaussian"), (distributed, "skellam")):
        monkeypatch.setattr(room, name, lambda scale, count, keystream: np.zeros(count, dtype=np.int64))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("scale", [1.0, 1e4, math.inf])
@pytest.mark.parametrize("cell", [("record", "distributed"), *(("client", noise) for noise in PLACES)])
def test_one_unit_moves_a_vector_by_the_clip_norm_and_rounding(cell: tuple[str, str], scale: float) -> None:
    """A record, or a client with all that it sends; rounding moves a coordinate by a step at most."""
    unit, noise = cell
    which = plan(noise, unit=unit, clip_norm=0.1, noise_multiplier=50.0, epsilon=1e9)
    others, extra = records(9 if unit == "record" else 0), records(1, scale)
    more = Records(torch.cat([others.features, extra.features]), torch.cat([others.labels, extra.labels]))
    draw = SeededEntropy(3).keystream
    tasks = [replace(task(which, data), draw=draw) for data in (others, more)]
    without, with_it = (contribution(each).vector for each in tasks)
    step = mechanism_of(which).grid.step
    moved = float(np.linalg.norm((with_it - without).astype(np.float64))) * step
    assert moved <= which.privacy.clip_norm + math.sqrt(len(without)) * step
    assert moved > 0 or not math.isfinite(scale)


def deviates(values: np.ndarray, std: float) -> bool:
    """Whether a sample's standard deviation is off by more than six standard errors: false alarm 2e-9."""
    return abs(float(values.std()) / std - 1) > 6 / math.sqrt(2 * len(values))


def test_what_the_server_releases_carries_the_planned_noise() -> None:
    mechanism, count = mechanism_of(plan("central")), 200_000
    release = mechanism.release(Sum(np.zeros(count, dtype=np.int64)), 1, Keystream(bytes(32)))[0]
    batch = mechanism.plan.training.batch_size
    std = mechanism.noise_std(count) / batch
    assert std >= mechanism.noise_multiplier * mechanism.clip_norm / batch
    assert not deviates(release.vector, std)


def test_what_a_device_steps_on_carries_the_planned_noise() -> None:
    mechanism, count = mechanism_of(plan("local")), 200_000
    assert isinstance(mechanism, Local)
    [noise] = mechanism.noise(count, 1, lambda *purpose: Keystream(bytes(32)))
    noised = mechanism.noised(Clipped(np.zeros(count)), noise)
    std = mechanism.noise_std(count)
    assert std >= mechanism.noise_multiplier * mechanism.clip_norm
    assert not deviates(noised, std)


def test_no_two_devices_and_no_two_rounds_draw_the_same_noise(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(override(read_tables(tiny_plan), ["privacy.noise=distributed", *MASKLESS]))
    drawn: list[bytes] = []
    skellam = distributed.skellam

    def watched(variance: float, count: int, keystream: Keystream) -> np.ndarray:
        noise = skellam(variance, count, keystream)
        drawn.append(noise[:1000].tobytes())
        return noise

    monkeypatch.setattr(distributed, "skellam", watched)
    simulate(study, tmp_path / "run")
    assert len(set(drawn)) == len(drawn) == 3 * 5


def answer(which: Plan, device: Device) -> RecordDict:
    """What the device answers to an offer of the plan's first round."""
    grid = LocalGrid(make_app(lambda context: device), 1)
    offer = ConfigRecord({"round": 1, "plan": which.offered()})
    parameters = read_flat(build("cnn", SHAPE, CLASSES, seed=0))
    array = Array(dtype="float32", shape=parameters.shape, stype=RAW, data=parameters.tobytes())
    sent = RecordDict({OFFER: offer, PARAMETERS: ArrayRecord({PARAMETERS: array})})
    [reply] = grid.send_and_receive([Message(sent, next(iter(grid.get_node_ids())), "train")])
    return reply.content


@pytest.mark.parametrize("fails", [False, True])
def test_a_device_answers_with_an_update_or_a_code_alone(fails: bool) -> None:
    def train(task: Task) -> Contribution:
        if fails:
            raise RuntimeError("record 7 is of Ada Lovelace")
        return contribution(task)

    which = plan("central")
    terms = Terms(trusted_server=True, clear_updates=True)
    content = answer(which, Device(records(9), terms, contribute=train))
    assert set(content) == ({ANSWER} if fails else {ANSWER, UPDATE})
    assert dict(content.config_records[ANSWER]) == {"code": "failed" if fails else "ok"}


def test_nobody_takes_a_plan_that_costs_more_than_its_budget(tmp_path: Path) -> None:
    """Neither a device to which it is offered, nor a server, nor a simulation: each by its own way in."""
    dear = plan("central").with_noise_multiplier(0.5)
    assert mechanism_of(dear).cost() > dear.privacy.epsilon
    terms = Terms(max_epsilon=1e9, trusted_server=True, clear_updates=True)
    content = answer(dear, Device(records(9), terms))
    assert set(content) == {ANSWER}
    assert dict(content.config_records[ANSWER]) == {"code": "plan"}
    (tmp_path / "plan.toml").write_text(dear.to_toml())
    with pytest.raises(PlanError, match="the budget is 8"):
        server_app._mechanism(tmp_path / "plan.toml")
    with pytest.raises(PlanError, match="the budget is 8"):
        make_study(read_tables(tmp_path / "plan.toml"))


@pytest.mark.parametrize("noise", PLACES)
def test_nothing_is_released_before_its_charge_is_on_disk(
    noise: str, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(override(read_tables(tiny_plan), [f"privacy.noise={noise}", *MASKLESS]))
    charged: list[int] = []

    kind = type(mechanism_of(study))
    release = kind.release

    def watched(*arguments: Any) -> Any:
        lines = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()[1:]
        charged.append(len({json.loads(line)["round"] for line in lines}))
        return release(*arguments)

    monkeypatch.setattr(kind, "release", watched)
    simulate(study, tmp_path / "run")
    assert charged == [1, 2, 3]


@pytest.mark.parametrize("noise", PLACES)
def test_every_step_takes_a_fresh_poisson_sample(
    noise: str, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = 2 if noise == "local" else 1
    settings = [f"privacy.noise={noise}", f"training.local_steps={steps}", "cohort.rounds=4", "data.split=iid"]
    settings += ["aggregation.colluders=0.3", *MASKLESS]
    study = make_study(override(read_tables(tiny_plan), [*settings, "data.clients=2", "cohort.size=2"]))
    seen: list[bytes] = []
    select = Records.select

    def watched(self: Records, chosen: np.ndarray) -> Records:
        seen.append(chosen.tobytes())
        return select(self, chosen)

    monkeypatch.setattr(Records, "select", watched)
    simulate(study, tmp_path / "run")
    assert len(seen) == 4 * 2 * steps
    assert len(set(seen)) == len(seen)  # two equal samples of 24 records: below 1e-5 by chance, and the seed is fixed
    taken = np.concatenate([np.frombuffer(mask, dtype=np.bool_) for mask in seen])
    assert abs(taken.mean() - 0.5) < 5 * 0.5 / math.sqrt(len(taken))  # false alarm 6e-7


def test_the_budget_ends_the_run_and_not_the_other_way_round(tiny_plan: Path, tmp_path: Path) -> None:
    study = make_study(read_tables(tiny_plan))
    result = simulate(study, tmp_path / "run")
    assert result.epsilon["server"] is None
    assert 0.99 * study.privacy.epsilon <= result.epsilon["released"] <= study.privacy.epsilon
