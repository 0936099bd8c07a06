"""The cells beyond a device's own DP-SGD: shared noise, and changes that are clipped as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bract.client import protect, train
from bract.client.local_sgd import local_change
from bract.client.protect import add_noise, clip
from bract.client.records import Records
from bract.client.train import MECHANISMS, Task, clipped_change, sampled_sum
from bract.privacy import Keystream, Plan
from bract.privacy.encoding.quantization import dequantize
from bract.privacy.encoding.rotation import padded, unrotate
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
Sample = Callable[..., Records]
Start = Callable[..., np.ndarray]
COUNT, ROUND = 51, 3
PLACES = ["central", "distributed", "local"]
NEW = [("record", "distributed"), *(("client", place) for place in PLACES)]
Cell = tuple[str, str]


@pytest.fixture
def planned(make: Make) -> Make:
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
        return make(**{name: sections.get(name, {}) | tables.get(name, {}) for name in {*sections, *tables}})

    return plan


@pytest.fixture
def work(vector: Start) -> Callable[..., Task]:
    """A function: a device's part of round 3, with these records."""

    def task(plan: Plan, records: Records, seed: int = 7) -> Task:
        return Task(plan, vector(plan), records, SeededEntropy(seed).keystream, ROUND)

    return task


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a device's own noise nor its share is added."""
    for name in ("gaussian", "skellam"):
        monkeypatch.setattr(protect, name, lambda scale, count, keystream: np.zeros(count, dtype=np.int64))


def real(plan: Plan, task: Task) -> np.ndarray:
    """What a device sends, as real numbers and turned back."""
    found = MECHANISMS[plan.cell](task).vector
    assert found.dtype == np.int64
    assert len(found) == plan.coordinates(COUNT) == (padded(COUNT) if plan.privacy.noise == "distributed" else COUNT)
    numbers = dequantize(found, plan.grid_step)
    return unrotate(numbers, plan.rotation(ROUND), COUNT) if plan.privacy.noise == "distributed" else numbers


@pytest.mark.usefixtures("quiet")
class TestWithoutItsNoise:
    def test_a_shared_step_is_the_clipped_sum_over_a_poisson_sample(
        self, planned: Make, sample: Sample, work: Callable[..., Task]
    ) -> None:
        plan = planned(("record", "distributed"))
        task = work(plan, sample(20))
        expected = sampled_sum(task, task.parameters, 0).vector
        assert np.linalg.norm(real(plan, task) - expected) <= math.sqrt(padded(COUNT)) * plan.grid_step
        assert np.linalg.norm(expected) > 20 * plan.grid_step

    @pytest.mark.parametrize("noise", PLACES)
    @pytest.mark.parametrize("clip_norm", [0.05, 10.0])
    def test_a_change_is_that_of_plain_training_clipped_as_a_whole(
        self, planned: Make, sample: Sample, work: Callable[..., Task], noise: str, clip_norm: float
    ) -> None:
        plan = planned(("client", noise), training={"local_steps": 3}, privacy={"clip_norm": clip_norm})
        task = work(plan, sample(20))
        change = local_change(plan, task.parameters, task.records, task.draw)
        long = np.linalg.norm(change.vector) > clip_norm
        assert long == (clip_norm == 0.05)
        expected = change.vector * (plan.safe_clip_norm / np.linalg.norm(change.vector) if long else 1.0)
        assert np.linalg.norm(real(plan, task) - expected) <= math.sqrt(padded(COUNT)) * plan.grid_step

    @pytest.mark.parametrize("noise", PLACES)
    @pytest.mark.parametrize("rate", [1e-3, 30.0, 1e6])
    def test_no_records_and_no_rate_move_the_sum_by_more_than_the_clip_norm(
        self, planned: Make, sample: Sample, work: Callable[..., Task], noise: str, rate: float
    ) -> None:
        plan = planned(("client", noise), training={"local_steps": 4, "learning_rate": rate})
        most = 0.0
        for scale in (1.0, 1e4, 1e30):
            task = work(plan, sample(9, scale=scale))
            found = MECHANISMS[plan.cell](task).vector
            most = max(most, float(np.linalg.norm(found)) * plan.grid_step)
        assert most <= plan.privacy.clip_norm + math.sqrt(plan.coordinates(COUNT)) * plan.grid_step
        assert rate < 1 or rate > 1e3 or most > 0.9 * plan.privacy.clip_norm

    @pytest.mark.parametrize("cell", NEW)
    def test_a_device_without_records_sends_zeros(
        self, planned: Make, sample: Sample, work: Callable[..., Task], cell: Cell
    ) -> None:
        plan = planned(cell)
        assert not MECHANISMS[cell](work(plan, sample(0))).vector.any()

    @pytest.mark.parametrize("noise", PLACES)
    def test_a_training_that_diverges_sends_zeros(
        self, planned: Make, sample: Sample, work: Callable[..., Task], noise: str
    ) -> None:
        plan = planned(("client", noise))
        records = sample(5)
        records.features[1] = np.nan
        assert not MECHANISMS[plan.cell](work(plan, records)).vector.any()


@pytest.mark.parametrize("noise", ["central", "distributed"])
def test_a_change_is_divided_by_the_scale_of_the_clip_norm(
    planned: Make, sample: Sample, work: Callable[..., Task], noise: str
) -> None:
    """The server multiplies the sum by it: so clip and noise are those of the round's clip norm."""
    plan = planned(("client", noise), privacy={"clip_norm": 10.0, "clip_quantile": 0.5})
    plain = work(plan, sample(9))
    one, half = (clipped_change(replace(plain, scale=scale)).vector[:-1] for scale in (1.0, 2.0))
    assert 0 < np.linalg.norm(one) < 10.0
    assert np.allclose(half, one / 2)
    short = clipped_change(replace(plain, scale=1e-6)).vector[:-1]
    assert np.linalg.norm(short) == pytest.approx(plan.safe_clip_norm)


@pytest.mark.parametrize("noise_multiplier", [1.0, 9.0])
@pytest.mark.parametrize("cell", [("client", "local"), ("client", "distributed"), ("record", "distributed")])
def test_what_leaves_carries_the_noise_that_the_plan_asks_of_one_device(
    planned: Make, sample: Sample, work: Callable[..., Task], cell: Cell, noise_multiplier: float
) -> None:
    plan = planned(cell, privacy={"noise_multiplier": noise_multiplier})
    sent = np.concatenate([MECHANISMS[cell](work(plan, sample(0), seed)).vector for seed in range(60)])
    shares = plan.place.noise_shares if cell[1] == "distributed" else 1
    std = plan.noise_std(COUNT) / plan.grid_step / math.sqrt(shares)
    # six standard errors: a false alarm in 2e-9 of seeds, and the seeds are fixed
    assert abs(sent.std() / std - 1) < 6 / math.sqrt(2 * len(sent))
    assert abs(sent.mean()) < 6 * std / math.sqrt(len(sent))


def test_a_change_with_noise_of_its_own_is_noised_on_the_finest_grid_first(
    planned: Make, sample: Sample, work: Callable[..., Task]
) -> None:
    plan = planned(("client", "local"))
    task = work(plan, sample(9))
    noised = add_noise(clipped_change(task), plan, task.draw("noise", 0)).vector * plan.noise_step
    found = MECHANISMS[plan.cell](task).vector
    assert np.abs(found - noised / plan.grid_step).max() <= 0.5
    assert np.abs(found).max() <= plan.bound


def test_a_change_without_noise_never_saturates(planned: Make, sample: Sample, work: Callable[..., Task]) -> None:
    plan = planned(("client", "central"), training={"learning_rate": 50.0})
    task = work(plan, sample(9))
    found = MECHANISMS[plan.cell](task).vector
    assert np.abs(found - clip(clipped_change(task), plan).vector / plan.grid_step).max() <= 0.5
    assert np.abs(found).max() < plan.bound


@pytest.mark.parametrize("cell", NEW)
def test_each_purpose_is_drawn_once_and_the_server_s_noise_not_at_all(
    planned: Make, sample: Sample, work: Callable[..., Task], cell: Cell
) -> None:
    plan, drawn = planned(cell, training={"batch_size": 9}), []

    def watched(*purpose: str | int) -> Keystream:
        drawn.append(purpose)
        return SeededEntropy(7).keystream(*purpose)

    task = work(plan, sample(9))
    MECHANISMS[cell](Task(plan, task.parameters, task.records, watched, ROUND))
    first = ("sample", 0) if cell[0] == "record" else ("order", 0)
    assert drawn == [first, ("noise", 0)][: 1 if cell[1] == "central" else 2]


@pytest.mark.parametrize("cell", NEW)
def test_a_device_turns_its_vector_as_the_round_says(
    planned: Make, sample: Sample, work: Callable[..., Task], cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []
    add_share = train.add_share
    monkeypatch.setattr(
        train, "add_share", lambda u, p, number, *more: rounds.append(number) or add_share(u, p, number, *more)
    )
    MECHANISMS[cell](work(planned(cell), sample(9)))
    assert rounds == ([ROUND] if cell[1] == "distributed" else [])
