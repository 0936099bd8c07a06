"""A device's plain training: SGD as by hand, over all records once an epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from devices import first_vector, make_tiny_plan, random_records
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from bract.client import local_sgd as updates
from bract.client.local_sgd import gradient_sum, local_change
from bract.client.records import Records
from bract.models import build, load_flat
from bract.privacy import Plan, SystemEntropy, Update
from bract.privacy.sampling import permutation
from bract.simulations.seeded import SeededEntropy

Make = Callable[..., Plan]
Start = Callable[..., np.ndarray]
draw = SeededEntropy(7).keystream


@pytest.fixture
def plan() -> Make:
    """A function: a plan whose unit is the client, with keys of its training such as `local_steps=3`."""
    privacy = {"unit": "client", "noise": "central", "sampling_rate": 1.0}
    return lambda **training: make_tiny_plan(
        training={"batch_size": 4, "learning_rate": 0.5} | training, privacy=privacy
    )


def sgd(plan: Plan, parameters: np.ndarray, records: Records) -> np.ndarray:
    """The change that torch's own SGD comes to in float64, a step over each next `batch_size` records."""
    model = build(plan.model.name, plan.data.shape, plan.data.classes)
    load_flat(model, parameters)
    model.double()
    optimizer = torch.optim.SGD(model.parameters(), lr=plan.training.learning_rate)
    batches: list[torch.Tensor] = []
    for epoch in range(plan.training.local_steps):
        order = torch.from_numpy(permutation(draw("order", epoch), len(records)))
        batches += [*order.split(plan.training.batch_size)]
    for chosen in batches[: plan.training.local_steps]:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(records.features[chosen].double()), records.labels[chosen]).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()]).numpy() - parameters


def spy(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The first feature of each record of every batch that is trained on from now on."""
    batches: list[list[float]] = []
    summed = updates.gradient_sum

    def watched(plan: Plan, parameters: np.ndarray, batch: Records, rows: int, passes: int) -> np.ndarray:
        batches.append(batch.features[:, 0, 0, 0].tolist())
        return summed(plan, parameters, batch, rows, passes)

    monkeypatch.setattr(updates, "gradient_sum", watched)
    return batches


@pytest.mark.parametrize(("steps", "size"), [(1, 4), (1, 100), (3, 4), (7, 4), (5, 1), (4, 11)])
def test_the_change_is_that_of_sgd_by_hand(plan: Make, steps: int, size: int) -> None:
    which = plan(local_steps=steps, batch_size=size)
    expected = sgd(which, first_vector(which), random_records(11))
    found = local_change(which, first_vector(which), random_records(11), draw)
    assert isinstance(found, Update)
    assert found.vector.dtype == np.float64
    assert np.linalg.norm(found.vector - expected) < 1e-5 * np.linalg.norm(expected)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 13), size=st.integers(1, 15), epochs=st.integers(1, 3))
def test_batches_hold_every_record_once_an_epoch(plan: Make, count: int, size: int, epochs: int) -> None:
    """In an order of their own in each epoch."""
    each = math.ceil(count / size)
    which = plan(local_steps=each * epochs, batch_size=size)
    records = random_records(count)
    with pytest.MonkeyPatch.context() as patched:
        batches = spy(patched)
        local_change(which, first_vector(which), records, draw)
    everyone = Counter(records.features[:, 0, 0, 0].tolist())
    assert len(batches) == each * epochs
    for epoch in range(epochs):
        part = batches[epoch * each : (epoch + 1) * each]
        assert Counter(value for batch in part for value in batch) == everyone
        assert all(len(batch) == size for batch in part[:-1])


def test_no_two_epochs_devices_or_rounds_see_one_order(plan: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = spy(monkeypatch)
    which = plan(local_steps=3, batch_size=20)
    for _ in range(2):
        local_change(which, first_vector(which), random_records(20), SystemEntropy().keystream)
    assert len({tuple(batch) for batch in batches}) == len(batches) == 6  # equal by chance: 15 in 20!


def test_a_step_averages_over_the_records_that_it_has(plan: Make) -> None:
    """A device with few records moves as far as one with many: its batch size is the most, not the divisor."""
    few, many = (plan(batch_size=size) for size in (5, 500))
    one, other = (local_change(which, first_vector(which), random_records(5), draw).vector for which in (few, many))
    assert np.allclose(one, other, rtol=1e-5, atol=1e-9)


def test_without_records_nothing_changes(plan: Make) -> None:
    which = plan(local_steps=3)
    found = local_change(which, first_vector(which), random_records(0), draw)
    assert found.vector.tolist() == [0.0] * 51
    assert found.vector.dtype == np.float64


def test_the_offered_parameters_are_left_as_they_are(plan: Make) -> None:
    which = plan(local_steps=2)
    parameters = first_vector(which)
    before = parameters.copy()
    parameters.flags.writeable = False
    assert local_change(which, parameters, random_records(9), draw).vector.any()
    assert np.array_equal(parameters, before)


def test_many_steps_of_a_hair_are_not_lost_to_float32(plan: Make) -> None:
    which = plan(local_steps=40, learning_rate=1e-9, batch_size=9)
    found = local_change(which, first_vector(which), random_records(9), draw).vector
    once = local_change(
        plan(local_steps=1, learning_rate=4e-8, batch_size=9), first_vector(which), random_records(9), draw
    ).vector
    assert np.allclose(found, once, rtol=1e-6)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_record_that_is_not_finite_spoils_this_change_alone(plan: Make, poison: float) -> None:
    """The clip makes zeros of it."""
    which, records = plan(), random_records(4)
    records.features[2] = poison
    assert not np.isfinite(local_change(which, first_vector(which), records, draw).vector).all()


def test_a_gradient_sum_is_plain_autograds(plan: Make) -> None:
    """It is zero without records."""
    which, records = plan(), random_records(7)
    model = build("tiny", which.data.shape, which.data.classes)
    load_flat(model, first_vector(which))
    nn.functional.cross_entropy(model(records.features), records.labels, reduction="sum").backward()
    expected = torch.cat([p.grad.flatten() for p in model.parameters()]).numpy()
    found = gradient_sum(which, first_vector(which), records)
    assert found.dtype == np.float64
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-7)
    assert gradient_sum(which, first_vector(which), random_records(0)).tolist() == [0.0] * 51
