"""The server's optimizer, also over a checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bract.privacy import Plan, Release
from bract.server.optimizer import average, rate_factor, step
from bract.server.state import ServerState, read_checkpoint, write_checkpoint

Make = Callable[..., Plan]
COUNT = 6

OPTIMIZERS: dict[str, tuple[dict[str, Any], Callable[[list[torch.Tensor]], torch.optim.Optimizer]]] = {
    "sgd": ({"learning_rate": 0.3}, lambda w: torch.optim.SGD(w, lr=0.3)),
    "momentum": (
        {"learning_rate": 0.3, "momentum": 0.9},
        lambda w: torch.optim.SGD(w, lr=0.3, momentum=0.9),
    ),
    "adam": ({"optimizer": "adam", "learning_rate": 0.01}, lambda w: torch.optim.Adam(w, lr=0.01)),
    "adam with decay": (
        {"optimizer": "adam", "learning_rate": 0.01, "weight_decay": 0.1},
        lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.1),
    ),
}


def releases(count: int) -> Iterator[Release]:
    rng = np.random.default_rng(0)
    return (Release(rng.normal(size=COUNT)) for _ in range(count))


def start() -> np.ndarray:
    return np.linspace(-1, 1, COUNT).astype(np.float32)


def through_disk(path: Path, parameters: np.ndarray, optimizer: Any) -> ServerState:
    write_checkpoint(path, ServerState(1, parameters, parameters, optimizer, "", ""))
    state = read_checkpoint(path)
    assert state is not None
    return state


def test_sgd_at_rate_one_adds_the_release(make: Make) -> None:
    [release] = releases(1)
    after, optimizer = step(make(), start(), {}, release)
    assert np.array_equal(after, start() + release.vector.astype(np.float32))
    assert after.dtype == np.float32
    assert not optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_torchs_own_over_a_checkpoint(make: Make, tmp_path: Path, name: str) -> None:
    """The state is carried over it."""
    settings, torch_optimizer = OPTIMIZERS[name]
    weights = torch.from_numpy(start())
    by_hand = torch_optimizer([weights])
    state = through_disk(tmp_path / "c", start(), {})
    for release in releases(5):
        parameters, optimizer = step(make(server=settings), state.parameters, state.optimizer, release)
        state = through_disk(tmp_path / "c", parameters, optimizer)
        weights.grad = torch.from_numpy(-release.vector.astype(np.float32))
        by_hand.step()
        assert np.array_equal(state.parameters, weights.numpy())
    assert not np.array_equal(state.parameters, start())


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_without_the_carried_state_the_second_step_would_differ(make: Make, name: str) -> None:
    plan = make(server=OPTIMIZERS[name][0])
    first, second = releases(2)
    parameters, optimizer = step(plan, start(), {}, first)
    assert optimizer
    with_it, _ = step(plan, parameters, optimizer, second)
    without_it, _ = step(plan, parameters, {}, second)
    assert not np.array_equal(with_it, without_it)


def test_adam_steps_up_where_the_release_is_up(make: Make) -> None:
    plan = make(server=OPTIMIZERS["adam"][0])
    after, _ = step(plan, start(), {}, Release(np.full(COUNT, 1e-3)))
    assert np.allclose(after - start(), 0.01, atol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_that_goes_in_is_changed(make: Make, name: str) -> None:
    plan, parameters = make(server=OPTIMIZERS[name][0]), start()
    first, second = releases(2)
    _, optimizer = step(plan, parameters, {}, first)
    kept = {key: value.copy() for key, value in optimizer.items()}
    for array in (parameters, second.vector, *optimizer.values()):
        array.flags.writeable = False
    before = second.vector.copy()
    step(plan, parameters, optimizer, second)
    assert np.array_equal(parameters, start())
    assert np.array_equal(second.vector, before)
    assert all(np.array_equal(optimizer[key], kept[key]) for key in kept)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_a_function_of_what_goes_in(make: Make, name: str) -> None:
    plan = make(server=OPTIMIZERS[name][0])
    [release] = releases(1)
    assert np.array_equal(step(plan, start(), {}, release)[0], step(plan, start(), {}, release)[0])


def test_without_averaging_the_model_is_the_stepped_one(make: Make) -> None:
    for number in (1, 2, 100):
        model = average(make(), number, start(), 2 * start())
        assert np.array_equal(model, 2 * start())
        assert model.dtype == np.float32


def test_the_average_forgets_the_start_faster_in_early_rounds(make: Make) -> None:
    plan = make(server={"averaging": 0.9})
    zero, one = np.zeros(COUNT, dtype=np.float32), np.ones(COUNT, dtype=np.float32)
    for number, keep in [(1, 2 / 11), (2, 3 / 12), (50, 51 / 60), (80, 81 / 90), (81, 0.9), (1000, 0.9)]:
        assert np.allclose(average(plan, number, one, zero), keep, rtol=1e-6)
        assert np.allclose(average(plan, number, zero, one), 1 - keep, rtol=1e-6)


def test_the_average_of_one_model_is_that_model(make: Make) -> None:
    model = average(make(server={"averaging": 0.99}), 7, start(), start())
    assert np.abs(model - start()).max() <= 1e-7


def test_averaging_changes_neither_model_in_place(make: Make) -> None:
    before, stepped = start(), 2 * start()
    average(make(server={"averaging": 0.9}), 3, before, stepped)
    assert np.array_equal(before, start())
    assert np.array_equal(stepped, 2 * start())


def test_decay_is_that_of_torch_without_momentum(make: Make) -> None:
    """Decoupled decay is then the same as a penalty."""
    weights = torch.from_numpy(start())
    weights.grad = torch.full((COUNT,), -0.5)
    torch.optim.SGD([weights], lr=0.3, weight_decay=0.1).step()
    plan = make(server={"learning_rate": 0.3, "weight_decay": 0.1})
    found, _ = step(plan, start(), {}, Release(np.full(COUNT, 0.5)))
    assert found == pytest.approx(weights.numpy(), rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "by_torch"),
    [
        ("cosine", lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=8)),
        ("linear", lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, total_iters=8)),
        ("constant", lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0)),
    ],
)
def test_rates_follow_torchs_schedule(make: Make, schedule: str, by_torch: Callable[..., Any]) -> None:
    plan = make(server={"schedule": schedule, "learning_rate": 0.5}, cohort={"rounds": 8})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    scheduler = by_torch(optimizer)
    for number in range(1, 9):
        assert 0.5 * rate_factor(plan, number) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        release = Release(np.ones(COUNT))
        moved = step(plan, start(), {}, release, number)[0] - start()
        assert moved == pytest.approx(np.full(COUNT, optimizer.param_groups[0]["lr"]), abs=1e-6)
        optimizer.step()
        scheduler.step()


def test_rates_rise_over_the_warmup(make: Make) -> None:
    plan = make(server={"schedule": "linear", "warmup": 4}, cohort={"rounds": 8})
    assert [rate_factor(plan, n) for n in range(1, 9)] == [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]
