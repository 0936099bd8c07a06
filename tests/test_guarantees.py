"""The guarantees, each through the code that a real round runs. `test_sabotage.py` breaks them one by one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from bract.client import protect
from bract.client.app import make_app
from bract.client.device import Device
from bract.client.protect import add_noise
from bract.client.records import Records
from bract.client.terms import Terms
from bract.client.train import MECHANISMS, Task
from bract.models import build, count_parameters, read_flat
from bract.privacy import Clipped, Keystream, Plan, Sum, SystemEntropy, Update, make_plan, override, read_tables
from bract.privacy.messages import ANSWER, OFFER, PARAMETERS, RAW, UPDATE
from bract.server.release import RELEASES
from bract.server.training import Training
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
    return Task(which, parameters, data, SystemEntropy().keystream)


@pytest.mark.parametrize("scale", [1.0, 1e4, math.inf])
@pytest.mark.parametrize("engine", ["auto", "opacus"])
def test_one_record_moves_what_a_device_sends_by_at_most_the_sensitivity(engine: str, scale: float) -> None:
    which = plan("central", engine, clip_norm=0.1)
    data, extra = records(9), records(1, scale)
    more = Records(torch.cat([data.features, extra.features]), torch.cat([data.labels, extra.labels]))
    without = MECHANISMS[which.cell](task(which, data)).vector
    with_it = MECHANISMS[which.cell](task(which, more)).vector
    moved = float(np.linalg.norm((with_it - without).astype(np.float64))) * which.grid_step
    assert moved <= which.sensitivity(len(without))
    assert moved > 0 or not math.isfinite(scale)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device adds no noise to what it sends."""
    for name in ("gaussian", "skellam"):
        monkeypatch.setattr(protect, name, lambda scale, count, keystream: np.zeros(count, dtype=np.int64))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("scale", [1.0, 1e4, math.inf])
@pytest.mark.parametrize("cell", [("record", "distributed"), *(("client", noise) for noise in PLACES)])
def test_one_unit_moves_what_a_device_sends_before_its_noise_by_at_most_the_clip_norm_and_the_rounding(
    cell: tuple[str, str], scale: float
) -> None:
    """A record, or a client with all that it sends; rounding moves a coordinate by a step at most."""
    unit, noise = cell
    which = plan(noise, unit=unit, clip_norm=0.1, noise_multiplier=50.0, epsilon=1e9)
    others, extra = records(9 if unit == "record" else 0), records(1, scale)
    more = Records(torch.cat([others.features, extra.features]), torch.cat([others.labels, extra.labels]))
    draw = SeededEntropy(3).keystream
    tasks = [replace(task(which, data), draw=draw) for data in (others, more)]
    without, with_it = (MECHANISMS[cell](each).vector for each in tasks)
    moved = float(np.linalg.norm((with_it - without).astype(np.float64))) * which.grid_step
    assert moved <= which.privacy.clip_norm + math.sqrt(len(without)) * which.grid_step
    assert moved > 0 or not math.isfinite(scale)


def deviates(values: np.ndarray, std: float) -> bool:
    """Whether a sample's standard deviation is off by more than six standard errors: false alarm 2e-9."""
    return abs(float(values.std()) / std - 1) > 6 / math.sqrt(2 * len(values))


def test_what_the_server_releases_carries_the_planned_noise() -> None:
    which, count = plan("central"), 200_000
    release = RELEASES[which.cell](Sum(np.zeros(count, dtype=np.int64)), which, Keystream(bytes(32)), 1)
    std = which.noise_std(count) / which.training.batch_size
    assert std >= which.noise_multiplier * which.privacy.clip_norm / which.training.batch_size
    assert not deviates(release.vector, std)


def test_what_a_device_steps_on_carries_the_planned_noise() -> None:
    which, count = plan("local"), 200_000
    noised = add_noise(Update(np.zeros(count)), which, Keystream(bytes(32)))
    std = which.noise_std(count)
    assert std >= which.noise_multiplier * which.privacy.clip_norm
    assert not deviates(noised.vector * which.noise_step, std)


def test_no_two_devices_and_no_two_rounds_draw_the_same_noise(
    tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(override(read_tables(tiny_plan), ["privacy.noise=distributed", *MASKLESS]))
    drawn: list[bytes] = []
    skellam = protect.skellam

    def watched(variance: float, count: int, keystream: Keystream) -> np.ndarray:
        noise = skellam(variance, count, keystream)
        drawn.append(noise[:1000].tobytes())
        return noise

    monkeypatch.setattr(protect, "skellam", watched)
    simulate(study, tmp_path / "run")
    assert len(set(drawn)) == len(drawn) == 3 * 5


@pytest.mark.parametrize("fails", [False, True])
def test_a_device_answers_with_an_update_or_a_code_and_nothing_else(fails: bool) -> None:
    def train(task: Task) -> Clipped:
        if fails:
            raise RuntimeError("record 7 is of Ada Lovelace")
        return MECHANISMS[task.plan.cell](task)

    which = plan("central")
    terms = Terms(trusted_server=True, clear_updates=True)
    app = make_app(lambda context: Device(records(9), terms, mechanisms={which.cell: train}))
    offer = ConfigRecord({"round": 1, "plan": which.offered()})
    parameters = read_flat(build("cnn", SHAPE, CLASSES, seed=0))
    array = Array(dtype="float32", shape=parameters.shape, stype=RAW, data=parameters.tobytes())
    grid = LocalGrid(app, 1)
    sent = RecordDict({OFFER: offer, PARAMETERS: ArrayRecord({PARAMETERS: array})})
    [reply] = grid.send_and_receive([Message(sent, next(iter(grid.get_node_ids())), "train")])
    assert set(reply.content) == ({ANSWER} if fails else {ANSWER, UPDATE})
    assert dict(reply.content.config_records[ANSWER]) == {"code": "failed" if fails else "ok"}


@pytest.mark.parametrize("noise", PLACES)
def test_nothing_is_released_before_its_charge_is_on_disk(
    noise: str, tiny_plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = make_study(override(read_tables(tiny_plan), [f"privacy.noise={noise}", *MASKLESS]))
    charged: list[int] = []

    def watched(self: Training) -> dict:
        def release(total: Sum, plan: Plan, keystream: Keystream, round: int):
            lines = (tmp_path / "run" / "ledger.jsonl").read_text().splitlines()[1:]
            charged.append(len({json.loads(line)["round"] for line in lines}))
            return RELEASES[plan.cell](total, plan, keystream, round)

        return {study.cell: release}

    monkeypatch.setattr("bract.simulations.run.OPEN_RELEASES", watched(None))
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
