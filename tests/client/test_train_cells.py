"""The cells beyond a device's own DP-SGD: shared noise, and changes that are clipped as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from devices import first_vector, make_tiny_plan, random_records

from bract.client.local_sgd import local_change
from bract.client.records import Records
from bract.client.train import Task, clipped_change, contribution, sampled_sum
from bract.privacy import Clipped, Keystream, Plan, mechanism_of
from bract.privacy.encoding.quantization import dequantize
from bract.privacy.encoding.rotation import padded, unrotate
from bract.privacy.mechanisms import distributed, local
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.mechanisms.local import Local
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
Start = Callable[..., np.ndarray]
COUNT, ROUND = 51, 3
PLACES = ["central", "distributed", "local"]
NEW = [("record", "distributed"), *(("client", place) for place in PLACES)]
Cell = tuple[str, str]


@pytest.fixture
def planned() -> Make:
    """A function: the plan of a cell for four devices, with tables such as `training={"local_steps": 3}`."""

    def plan(cell: Cell, **tables: dict[str, Any]) -> Plan:
        unit, noise = cell
        sections: dict[str, dict[str, Any]] = {
            "data": {"clients": 4},
            "model": {"parameters": COUNT},
            "cohort": {"size": 4},
            "privacy": {
                "unit": unit,
                "noise": noise,
                "epsilon": 1e9,
                "sampling_rate": 0.5 if unit == "record" else 1.0,
            },
            "aggregation": {"protocol": "secagg"},
        }
        return make_tiny_plan(
            **{name: sections.get(name, {}) | tables.get(name, {}) for name in {*sections, *tables}}
        )

    return plan


@pytest.fixture
def work() -> Callable[..., Task]:
    """A function: a device's part of round 3, with these records."""

    def task(plan: Plan, records: Records, seed: int = 7) -> Task:
        return Task(mechanism_of(plan), first_vector(plan), records, SeededEntropy(seed).keystream, ROUND)

    return task


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a device's own noise nor its share is added."""
    for module, name in ((local, "gaussian"), (distributed, "skellam")):
        monkeypatch.setattr(module, name, lambda scale, count, keystream: np.zeros(count, dtype=np.int64))


def real(task: Task) -> np.ndarray:
    """What a device sends, as real numbers and turned back."""
    found, mechanism = contribution(task).vector, task.mechanism
    assert found.dtype == np.int64
    shared = isinstance(mechanism, Distributed)
    assert len(found) == mechanism.coordinates(COUNT) == (padded(COUNT) if shared else COUNT)
    numbers = dequantize(found, mechanism.grid.step)
    return unrotate(numbers, mechanism.rotation(ROUND), COUNT) if shared else numbers


@pytest.mark.usefixtures("quiet")
class TestWithoutItsNoise:
    def test_a_shared_step_is_the_clipped_sum_over_a_poisson_sample(
        self, planned: Make, work: Callable[..., Task]
    ) -> None:
        plan = planned(("record", "distributed"))
        task = work(plan, random_records(20))
        expected = sampled_sum(task, task.parameters, 0).vector
        assert np.linalg.norm(real(task) - expected) <= math.sqrt(padded(COUNT)) * task.mechanism.grid.step
        assert np.linalg.norm(expected) > 20 * task.mechanism.grid.step

    @pytest.mark.parametrize("noise", PLACES)
    @pytest.mark.parametrize("clip_norm", [0.05, 10.0])
    def test_a_change_is_that_of_plain_training_clipped_as_a_whole(
        self, planned: Make, work: Callable[..., Task], noise: str, clip_norm: float
    ) -> None:
        plan = planned(("client", noise), training={"local_steps": 3}, privacy={"clip_norm": clip_norm})
        task = work(plan, random_records(20))
        change = local_change(plan, task.parameters, task.records, task.draw)
        long = np.linalg.norm(change.vector) > clip_norm
        assert long == (clip_norm == 0.05)
        expected = change.vector * (plan.safe_clip_norm / np.linalg.norm(change.vector) if long else 1.0)
        assert np.linalg.norm(real(task) - expected) <= math.sqrt(padded(COUNT)) * task.mechanism.grid.step

    @pytest.mark.parametrize("noise", PLACES)
    @pytest.mark.parametrize("rate", [1e-3, 30.0, 1e6])
    def test_nothing_moves_the_sum_by_more_than_the_clip_norm(
        self, planned: Make, work: Callable[..., Task], noise: str, rate: float
    ) -> None:
        """Neither having no records nor any rate does."""
        plan = planned(("client", noise), training={"local_steps": 4, "learning_rate": rate})
        mechanism, most = mechanism_of(plan), 0.0
        for scale in (1.0, 1e4, 1e30):
            task = work(plan, random_records(9, scale=scale))
            found = contribution(task).vector
            most = max(most, float(np.linalg.norm(found)) * mechanism.grid.step)
        assert most <= plan.privacy.clip_norm + math.sqrt(mechanism.coordinates(COUNT)) * mechanism.grid.step
        assert rate < 1 or rate > 1e3 or most > 0.9 * plan.privacy.clip_norm

    @pytest.mark.parametrize("cell", NEW)
    def test_a_device_without_records_sends_zeros(self, planned: Make, work: Callable[..., Task], cell: Cell) -> None:
        plan = planned(cell)
        assert not contribution(work(plan, random_records(0))).vector.any()

    @pytest.mark.parametrize("noise", PLACES)
    def test_a_training_that_diverges_sends_zeros(self, planned: Make, work: Callable[..., Task], noise: str) -> None:
        plan = planned(("client", noise))
        records = random_records(5)
        records.features[1] = np.nan
        assert not contribution(work(plan, records)).vector.any()


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_a_change_is_divided_by_the_scale_of_the_clip_norm(
    planned: Make, work: Callable[..., Task], noise: str
) -> None:
    """The server multiplies the sum by it: so clip and noise are those of the round's clip norm."""
    plan = planned(("client", noise), privacy={"clip_norm": 10.0, "clip_quantile": 0.5})
    plain = work(plan, random_records(9))
    one, half = (clipped_change(replace(plain, scale=scale)).vector[:-1] for scale in (1.0, 2.0))
    assert 0 < np.linalg.norm(one) < 10.0
    assert np.allclose(half, one / 2)
    short = clipped_change(replace(plain, scale=1e-6)).vector[:-1]
    assert np.linalg.norm(short) == pytest.approx(plan.safe_clip_norm)


@pytest.mark.parametrize("noise_multiplier", [1.0, 9.0])
@pytest.mark.parametrize("cell", [("client", "local"), ("client", "distributed"), ("record", "distributed")])
def test_what_leaves_carries_the_noise_of_one_device(
    planned: Make, work: Callable[..., Task], cell: Cell, noise_multiplier: float
) -> None:
    """The noise that the plan asks of it."""
    plan = planned(cell, privacy={"noise_multiplier": noise_multiplier})
    sent = np.concatenate([contribution(work(plan, random_records(0), seed)).vector for seed in range(60)])
    mechanism = mechanism_of(plan)
    shares = mechanism.numbers.honest if isinstance(mechanism, Distributed) else 1
    std = mechanism.noise_std(COUNT) / mechanism.grid.step / math.sqrt(shares)
    # six standard errors: a false alarm in 2e-9 of seeds, and the seeds are fixed
    assert abs(sent.std() / std - 1) < 6 / math.sqrt(2 * len(sent))
    assert abs(sent.mean()) < 6 * std / math.sqrt(len(sent))


def test_a_change_with_own_noise_is_noised_on_the_finest_grid(planned: Make, work: Callable[..., Task]) -> None:
    """Before it is put on the sum's."""
    task = work(planned(("client", "local")), random_records(9))
    mechanism = task.mechanism
    assert isinstance(mechanism, Local)
    noised = mechanism.noised(clipped_change(task), next(mechanism.noise(COUNT, 1, task.draw)))
    found = contribution(task).vector
    assert np.abs(found - noised / mechanism.grid.step).max() <= 0.5
    assert np.abs(found).max() <= mechanism.grid.bound


def test_a_change_without_noise_never_saturates(planned: Make, work: Callable[..., Task]) -> None:
    plan = planned(("client", "central"), training={"learning_rate": 50.0})
    task = work(plan, random_records(9))
    found, change = contribution(task).vector, clipped_change(task)
    assert isinstance(change, Clipped)
    assert np.linalg.norm(change.vector) == pytest.approx(plan.safe_clip_norm)
    assert np.abs(found - change.vector / task.mechanism.grid.step).max() <= 0.5
    assert np.abs(found).max() < task.mechanism.grid.bound


@pytest.mark.parametrize("cell", NEW)
def test_each_purpose_is_drawn_once_and_server_noise_never(
    planned: Make, work: Callable[..., Task], cell: Cell
) -> None:
    """The device draws no noise of the server."""
    plan, drawn = planned(cell, training={"batch_size": 9}), []

    def watched(*purpose: str | int) -> Keystream:
        drawn.append(purpose)
        return SeededEntropy(7).keystream(*purpose)

    task = work(plan, random_records(9))
    contribution(Task(mechanism_of(plan), task.parameters, task.records, watched, ROUND))
    first = ("sample", 0) if cell[0] == "record" else ("order", 0)
    assert drawn == [first, ("noise", 0)][: 1 if cell[1] == "central" else 2]


@pytest.mark.parametrize("cell", NEW)
def test_a_device_turns_its_vector_as_the_round_says(
    planned: Make, work: Callable[..., Task], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    rotation = Distributed.rotation
    monkeypatch.setattr(Distributed, "rotation", lambda self, number: rounds.append(number) or rotation(self, number))
    contribution(work(planned(cell), random_records(9)))
    assert rounds == ([ROUND] if cell[1] == "distributed" else [])
