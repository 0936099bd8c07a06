"""The steps of a device are those of torch's optimizers, and of the published rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bract.client.local_steps import LocalSteps
from bract.privacy import override, read_tables
from bract.privacy.plan.schema import Training
from bract.server.state import read_checkpoint
from bract.simulations.run import simulate
from bract.simulations.study import make_study

START = np.array([1.0, -2.0, 0.5], dtype=np.float32)


def gradients(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3))


def taken(training: Training, count: int = 5) -> np.ndarray:
    steps = LocalSteps(training, START)
    for gradient in gradients(count):
        steps.step(gradient)
    return steps.parameters


def by_torch(optimizer: type[torch.optim.Optimizer], count: int = 5, **options: Any) -> np.ndarray:
    weights = torch.from_numpy(START.astype(np.float64))
    stepper = optimizer([weights], **options)
    for gradient in gradients(count):
        weights.grad = torch.from_numpy(gradient)
        stepper.step()
    return weights.numpy()


@pytest.mark.parametrize(
    ("keys", "optimizer", "options"),
    [
        ({}, torch.optim.SGD, {}),
        ({"momentum": 0.9}, torch.optim.SGD, {"momentum": 0.9}),
        ({"weight_decay": 0.1}, torch.optim.SGD, {"weight_decay": 0.1}),
        ({"optimizer": "adam"}, torch.optim.Adam, {}),
        ({"optimizer": "adam", "weight_decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_steps_are_those_of_torch(keys: dict[str, Any], optimizer: Any, options: dict[str, Any]) -> None:
    training = Training(learning_rate=0.3, **keys)
    assert taken(training) == pytest.approx(by_torch(optimizer, lr=0.3, **options), abs=1e-12)


@given(st.floats(0.01, 10), st.floats(0.01, 0.5))
def test_fedprox_adds_the_gradient_of_its_distance(proximal: float, rate: float) -> None:
    """Its penalty is `proximal / 2` times the squared distance from the round's model."""
    expected = START.astype(np.float64)
    for gradient in gradients(4):
        expected = expected - rate * (gradient + proximal * (expected - START))
    found = taken(Training(learning_rate=rate, proximal=proximal), 4)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_start_is_left_as_it_is() -> None:
    before = START.copy()
    taken(Training(learning_rate=0.3, momentum=0.5, weight_decay=0.5, proximal=1.0))
    assert np.array_equal(START, before)


@pytest.mark.parametrize("value", [0, 0.0])
def test_a_key_at_its_default_is_absent(value: float) -> None:
    """So the digest of a plan that names it is that of a plan that does not."""
    training = Training(optimizer="sgd", momentum=value, weight_decay=value, proximal=value)  # type: ignore[arg-type]
    assert training == Training()


CELLS = [
    ("client", "central", ["training.optimizer=adam", "training.learning_rate=0.01"]),
    ("client", "local", ["training.momentum=0.5", "training.proximal=0.1"]),
    ("record", "local", ["training.momentum=0.5", "training.weight_decay=0.01"]),
]


@pytest.mark.parametrize(("unit", "noise", "keys"), CELLS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_run_trains_with_them_and_otherwise_than_without(
    unit: str, noise: str, keys: list[str], tiny_plan: Path, tmp_path: Path
) -> None:
    how = [f"privacy.unit={unit}", f"privacy.noise={noise}", "training.local_steps=3", "training.batch_size=5"]
    how += ["privacy.sampling_rate=1"] if unit == "client" else []
    found = []
    for name, more in (("with", keys), ("without", [])):
        study = make_study(override(read_tables(tiny_plan), [*how, *more]))
        simulate(study, tmp_path / name)
        state = read_checkpoint(tmp_path / name / "checkpoint.bract")
        assert state is not None
        found.append(state.parameters)
    assert not np.array_equal(*found)
