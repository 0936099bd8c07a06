"""How a device trains: samples, clipped sums and local steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
import torch
from devices import make_tiny_plan, random_records
from torch import nn

from bract.client import train
from bract.client.clipping.book_keeping import BookKeepingEngine
from bract.client.records import Records
from bract.client.train import Task, contribution, engine_for, noised_steps, rows_of, sampled_sum
from bract.models import build, load_flat, read_flat
from bract.privacy import Clipped, Contribution, Keystream, Plan, SystemEntropy, Update, mechanism_of
from bract.privacy.mechanisms import local
from bract.privacy.mechanisms.central import Central
from bract.privacy.mechanisms.local import Local
from bract.privacy.noise.gaussian import gaussian
from bract.privacy.plan.schema import Privacy
from bract.privacy.sampling import poisson_sample
from bract.simulations.seeded import SeededEntropy

FINE = {"bits": 64}
"""The aggregation of the finest grid, on which rounding is no larger than float32's."""


def start(plan: Plan) -> np.ndarray:
    return read_flat(build(plan.model.name, plan.data.shape, plan.data.classes, seed=0))


def task(plan: Plan, records: Records, draw: Callable[..., Keystream] | None = None) -> Task:
    return Task(mechanism_of(plan), start(plan), records, draw or SeededEntropy(7).keystream)


def mask(plan: Plan, records: Records, step: int) -> np.ndarray:
    return poisson_sample(SeededEntropy(7).keystream("sample", step), plan.privacy.sampling_rate, len(records))


def naive_sum(plan: Plan, parameters: np.ndarray, records: Records) -> np.ndarray:
    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    load_flat(model, parameters.astype(np.float32))
    total = np.zeros(len(parameters))
    for x, y in zip(records.features, records.labels, strict=True):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).double()
        total += (gradient * min(1.0, plan.safe_clip_norm / (float(gradient.norm()) + 1e-6))).numpy()
    return total


class Draws:
    """Records what keystreams were drawn for, each under a fresh key."""

    def __init__(self) -> None:
        self.purposes: list[tuple[str | int, ...]] = []
        self.keystreams: list[Keystream] = []

    def __call__(self, *purpose: str | int) -> Keystream:
        self.purposes.append(purpose)
        self.keystreams.append(SystemEntropy().keystream())
        return self.keystreams[-1]


def spy_on_batches(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """The masks of all samples taken from now on."""
    masks: list[np.ndarray] = []
    select = Records.select

    def watched(self: Records, chosen: np.ndarray) -> Records:
        masks.append(chosen.copy())
        return select(self, chosen)

    monkeypatch.setattr(Records, "select", watched)
    return masks


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "gaussian", lambda std, count, keystream: np.zeros(count, dtype=np.int64))


class TestTheVectorOfATask:
    """Two vectors, by the unit, and three mechanisms, by the place of the noise, make the six cells."""

    def test_is_made_for_each_unit_of_a_deployed_plan(self) -> None:
        assert set(train.VECTORS) == set(get_args(Privacy.model_fields["unit"].annotation))

    @pytest.mark.parametrize("noise", get_args(Privacy.model_fields["noise"].annotation))
    @pytest.mark.parametrize("unit", get_args(Privacy.model_fields["unit"].annotation))
    def test_is_clipped_unless_its_steps_are_noised(self, unit: str, noise: str) -> None:
        secure = {"cohort": {"size": 2}, "aggregation": {"protocol": "secagg"}} if noise == "distributed" else {}
        rate = 0.5 if unit == "record" else 1.0
        privacy = {"unit": unit, "noise": noise, "sampling_rate": rate, "epsilon": 1e6}
        plan = make_tiny_plan(model={"name": "tiny", "parameters": 51}, privacy=privacy, **secure)
        vector = train.VECTORS[unit](task(plan, random_records(9)))
        assert isinstance(vector, Clipped) == ((unit, noise) != ("record", "local"))

    def test_reaches_the_mechanism_with_the_draws_of_the_round(self) -> None:
        """The plan's own mechanism."""
        given: list[Any] = []

        class Spy(Central):
            def contribute(self, *arguments: Any) -> Contribution:
                given.append(arguments)
                return super().contribute(*arguments)

        plan, seeds = make_tiny_plan(privacy={"noise": "central"}), [bytes(32)]
        work = replace(task(plan, random_records(9)), mechanism=Spy(plan), round=3, layers=seeds)
        contribution(work)
        [(vector, *rest)] = given
        assert rest == [3, work.draw, seeds]
        assert np.array_equal(vector.vector, sampled_sum(work, work.parameters, 0).vector)

    def test_is_none_where_steps_have_no_noise_of_the_device(self) -> None:
        class Odd(Central):
            sums_gradients = False  # pyright: ignore

        plan = make_tiny_plan(privacy={"noise": "central"})
        with pytest.raises(ValueError, match="local steps without local noise"):
            contribution(replace(task(plan, random_records(9)), mechanism=Odd(plan)))


def test_a_central_step_is_the_clipped_sum_over_a_sample() -> None:
    """A Poisson sample, at the offered parameters."""
    plan, records = (
        make_tiny_plan(privacy={"noise": "central", "clip_norm": 0.3}, aggregation=FINE),
        random_records(20),
    )
    expected = naive_sum(plan, start(plan), records.select(mask(plan, records, 0)))
    found = contribution(task(plan, records)).vector * mechanism_of(plan).grid.step
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_central_step_draws_one_sample_and_no_noise() -> None:
    draws = Draws()
    contribution(task(make_tiny_plan(privacy={"noise": "central"}), random_records(20), draws))
    assert draws.purposes == [("sample", 0)]


@pytest.mark.parametrize(("together", "ahead"), [(1, 1), (3 * 51 - 1, 2), (1 << 16, 4)])
def test_every_local_step_draws_a_fresh_sample(monkeypatch: pytest.MonkeyPatch, together: int, ahead: int) -> None:
    """Its noise is made ahead where it is short."""
    monkeypatch.setattr(local, "BLOCK", together)
    draws = Draws()
    contribution(task(make_tiny_plan(training={"local_steps": 4}), random_records(20), draws))
    every = [[*([("noise", step)] if step % ahead == 0 else []), ("sample", step)] for step in range(4)]
    assert draws.purposes == [purpose for one in every for purpose in one]
    assert len(set(map(id, draws.keystreams))) == len(draws.purposes)


def test_two_rounds_never_see_the_same_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = spy_on_batches(monkeypatch)
    for _ in range(5):
        contribution(task(make_tiny_plan(training={"local_steps": 2}), random_records(64), SystemEntropy().keystream))
    assert len({m.tobytes() for m in masks}) == len(masks) == 10  # equal by chance: 45 * 2^-64


@pytest.mark.parametrize("noise", ["local", "central"])
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_each_record_is_sampled_at_the_plans_rate_on_its_own(
    monkeypatch: pytest.MonkeyPatch, rate: float, noise: str
) -> None:
    plan = make_tiny_plan(privacy={"sampling_rate": rate, "noise": noise, "noise_multiplier": 20.0})
    monkeypatch.setattr(BookKeepingEngine, "clipped_sum", lambda engine, batch, *rest: np.zeros(51))
    masks, rounds, count = spy_on_batches(monkeypatch), 400, 50
    for number in range(rounds):
        contribution(task(plan, random_records(count), lambda *p, n=number: SeededEntropy(n).keystream(*p)))
    taken, error = np.array(masks), math.sqrt(rate * (1 - rate))
    # six standard errors: a false alarm in 2e-9 of seeds a figure, and the seeds are fixed
    assert taken.shape == (rounds, count)
    assert abs(taken.mean() - rate) < 6 * error / math.sqrt(rounds * count)
    assert np.abs(taken.mean(axis=0) - rate).max() < 6 * error / math.sqrt(rounds)
    assert abs(taken.sum(axis=1).var() / (count * error**2) - 1) < 6 * math.sqrt(2.2 / rounds)


def test_a_sampling_rate_of_one_takes_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    masks = spy_on_batches(monkeypatch)
    contribution(
        task(
            make_tiny_plan(privacy={"noise": "central", "sampling_rate": 1.0, "noise_multiplier": 9.0}),
            random_records(9),
        )
    )
    assert [m.all() for m in masks] == [True]


def test_local_steps_without_their_noise_are_dp_sgd_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    without_noise(monkeypatch)
    plan = make_tiny_plan(training={"local_steps": 3}, privacy={"clip_norm": 0.3}, aggregation=FINE)
    records = random_records(24)
    by_hand = start(plan).astype(np.float64)
    for step in range(3):
        gradient = naive_sum(plan, by_hand, records.select(mask(plan, records, step)))
        by_hand -= plan.training.learning_rate * gradient / plan.training.batch_size
    change = contribution(task(plan, records)).vector * mechanism_of(plan).grid.step
    expected = by_hand - start(plan)
    assert np.linalg.norm(expected) > 0.02
    assert np.linalg.norm(change - expected) < 1e-5 * np.linalg.norm(expected)


def test_the_divisor_is_the_public_batch_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the size of the sample, which would tell it."""
    without_noise(monkeypatch)
    records = random_records(24)
    plans = [make_tiny_plan(training={"batch_size": size}, aggregation=FINE) for size in (4, 8)]
    assert mechanism_of(plans[0]).grid.step == mechanism_of(plans[1]).grid.step
    changes = [contribution(task(plan, records)).vector for plan in plans]
    assert np.abs(changes[0]).max() > 1000
    assert np.abs(changes[0] - 2 * changes[1]).max() <= 2


@pytest.mark.parametrize("steps", [1, 4])
def test_local_steps_carry_the_noise_of_each_of_their_steps(steps: int) -> None:
    rate = 1e-12  # no record is ever sampled, so the change is noise alone
    plan = make_tiny_plan(
        training={"local_steps": steps}, privacy={"sampling_rate": rate, "allow_large_delta": True}, aggregation=FINE
    )
    mechanism = mechanism_of(plan)
    std = mechanism.noise_std(51) / mechanism.grid.noise_step
    total = gaussian(std, steps * 51, SeededEntropy(7).keystream("noise", 0)).reshape(steps, 51).sum(axis=0)
    assert mechanism.grid.step == mechanism.grid.noise_step
    expected = -plan.training.learning_rate * total / plan.training.batch_size
    found = contribution(task(plan, random_records(9))).vector
    assert np.abs(found - expected).max() <= steps
    assert np.abs(found).max() > 2.0**20


def test_an_empty_sample_gives_a_central_step_of_zeros() -> None:
    plan = make_tiny_plan(privacy={"noise": "central", "sampling_rate": 1e-12, "allow_large_delta": True})
    assert not contribution(task(plan, random_records(9))).vector.any()


def test_gradients_are_clipped_below_the_norm_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The norm that the noise is scaled to."""
    plan = make_tiny_plan(
        privacy={"noise": "central", "sampling_rate": 1.0, "noise_multiplier": 9.0, "clip_norm": 0.2}
    )
    shares = [contribution(task(plan, part)).vector for part in random_records(20, scale=100.0).chunks(1)]
    norms = [np.linalg.norm(share) * mechanism_of(plan).grid.step for share in shares]
    sensitivity = mechanism_of(plan).sensitivity(51)
    assert 0.99 * sensitivity < max(norms) <= sensitivity


def test_each_step_starts_from_the_parameters_of_the_step_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []

    def watched(task: Task, parameters: np.ndarray, step: int) -> Update:
        seen.append(parameters.copy())
        return sampled_sum(task, parameters, step)

    monkeypatch.setattr(train, "sampled_sum", watched)
    plan = make_tiny_plan(training={"local_steps": 3})
    contribution(task(plan, random_records(9)))
    assert np.array_equal(seen[0], start(plan))
    assert len({s.tobytes() for s in seen}) == 3
    assert {s.dtype for s in seen} == {np.dtype(np.float32)}


def test_the_offered_parameters_are_not_changed_in_place() -> None:
    plan = make_tiny_plan(training={"local_steps": 2})
    work = task(plan, random_records(9))
    work.parameters.flags.writeable = False
    before = work.parameters.copy()
    contribution(work)
    contribution(work)
    assert np.array_equal(work.parameters, before)


def test_parameters_of_another_length_are_refused() -> None:
    plan = make_tiny_plan()
    work = Task(mechanism_of(plan), start(plan)[:-1], random_records(9), SeededEntropy(7).keystream)
    with pytest.raises(ValueError, match="expected 51 parameters"):
        contribution(work)


@pytest.mark.parametrize("rate", [1.0, 1e6])
def test_a_training_that_diverges_sends_finite_numbers_alone(rate: float) -> None:
    plan = make_tiny_plan(training={"local_steps": 2, "learning_rate": rate})
    work = Task(
        mechanism_of(plan), np.full(51, 1e38, dtype=np.float32), random_records(9), SeededEntropy(7).keystream
    )
    assert contribution(work).vector.dtype == np.int64


def test_the_engine_is_kept_while_network_and_norm_are_the_same() -> None:
    first = engine_for(make_tiny_plan())
    assert engine_for(make_tiny_plan(training={"learning_rate": 0.1})) is first
    assert engine_for(make_tiny_plan(privacy={"clip_norm": 0.5})) is not first


def test_a_task_does_not_print_what_it_holds() -> None:
    work = task(make_tiny_plan(), random_records(2))
    assert str(float(work.records.features[0, 0, 0, 0]))[:6] not in repr(work)
    assert repr(work.records) == "Records(2)"


@pytest.mark.parametrize("aggregation", [{}, {"bits": 64}], ids=["least ring", "finest grid"])
def test_quantized_changes_are_within_half_a_grid_step(aggregation: dict[str, int]) -> None:
    work = task(make_tiny_plan(aggregation=aggregation), random_records(9))
    assert isinstance(work.mechanism, Local)
    change = noised_steps(work, work.mechanism).vector
    assert np.abs(contribution(work).vector - change / work.mechanism.grid.step).max() <= 0.5


@pytest.mark.parametrize("noise", ["local", "central"])
def test_the_least_ring_sends_what_the_finest_grid_does(noise: str) -> None:
    """Rounding to either grid moves a coordinate by half a step at most, and nothing saturates."""
    plans = [make_tiny_plan(privacy={"noise": noise}, aggregation=aggregation) for aggregation in ({}, FINE)]
    assert mechanism_of(plans[0]).grid.ring.bits < mechanism_of(plans[1]).grid.ring.bits == 64
    large, small = (mechanism_of(p).grid.step for p in plans)
    coarse, fine = (contribution(task(p, random_records(9))).vector * mechanism_of(p).grid.step for p in plans)
    assert np.abs(fine).max() > large
    assert np.abs(coarse - fine).max() <= (large + small) / 2 * (1 + 1e-9)


@pytest.mark.parametrize(
    ("batch", "devices", "noise", "on_cpu", "on_gpu"),
    [(1, 1, "central", 32, 32), (34, 2, "central", 32, 32), (64, 2, "central", 64, 64), (700, 2, "local", 128, 224)],
)
def test_records_taken_at_a_time_follow_from_the_plan(
    batch: int, devices: int, noise: str, on_cpu: int, on_gpu: int
) -> None:
    plan = make_tiny_plan(
        training={"batch_size": batch}, cohort={"size": devices}, privacy={"noise": noise, "delta": 1e-4}
    )
    assert rows_of(plan, torch.device("cpu")) == on_cpu
    assert rows_of(plan, torch.device("cuda")) == on_gpu
