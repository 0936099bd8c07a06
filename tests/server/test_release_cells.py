"""The releases beyond pooled DP-SGD under the server's own noise: shared noise, and averages of whole changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bract.client.protect import add_share
from bract.privacy import Keystream, Plan, Release, Sum, Update
from bract.privacy.encoding.quantization import quantize
from bract.privacy.encoding.rotation import padded, rotate
from bract.privacy.noise.gaussian import gaussian
from bract.server.release import RELEASES

Make = Callable[..., Plan]
Cell = tuple[str, str]
COUNT, ROUND, RATE, BATCH = 5000, 4, 0.25, 40
SHARED = [("record", "distributed"), ("client", "distributed")]
QUIET = [*SHARED, ("record", "local"), ("client", "local")]
"""Cells whose sums bring their noise along."""


@pytest.fixture
def planned(make: Make) -> Make:
    """A function: the plan of a cell for so many devices, `planned(cell, size=4, **tables)`."""

    def plan(cell: Cell, size: int = 4, **tables: dict[str, Any]) -> Plan:
        unit, noise = cell
        sections: dict[str, dict[str, Any]] = {
            "data": {"clients": size},
            "model": {"parameters": COUNT},
            "training": {"batch_size": BATCH, "learning_rate": RATE},
            "cohort": {"size": size},
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


class NoKeystream(Keystream):
    """A keystream that must not be used."""

    def bytes(self, count: int) -> bytes:
        raise AssertionError


def key(*numbers: int) -> Keystream:
    return Keystream(bytes([*numbers, *[0] * (32 - len(numbers))]))


def change(device: int) -> np.ndarray:
    return 0.01 * np.random.default_rng(device).normal(size=COUNT)


def divided(plan: Plan, total: np.ndarray) -> np.ndarray:
    """The sum of what devices found over the plan's public divisor, as a change of the model."""
    return -RATE * total / BATCH if plan.cell == ("record", "distributed") else total / plan.cohort.size


def released(plan: Plan, total: np.ndarray, round: int = ROUND) -> np.ndarray:
    """What is released of a sum that brings its noise along, or that has none."""
    release = RELEASES[plan.cell](Sum(total), plan, NoKeystream(bytes(32)), round)
    assert isinstance(release, Release)
    assert release.vector.shape == (COUNT,)
    return release.vector


@pytest.mark.parametrize("cell", SHARED)
@pytest.mark.parametrize("size", [4, 7])
def test_a_sum_of_turned_vectors_is_turned_back_exactly(
    planned: Make, cell: Cell, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rounding and noise, which the grid's numbers stand for: the release is the plain sum of the cohort."""
    plan = planned(cell, size)
    monkeypatch.setattr("bract.server.release.dequantize", lambda vector, step: vector)
    total = np.sum([rotate(change(device), plan.rotation(ROUND)) for device in range(size)], axis=0)
    expected = divided(plan, np.sum([change(device) for device in range(size)], axis=0))
    assert np.abs(released(plan, total) - expected).max() < 1e-9 * np.abs(expected).max()
    assert np.abs(released(plan, total, ROUND + 1) - expected).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("cell", SHARED)
def test_a_sum_with_its_noise_is_released_as_it_is_but_for_the_turn(planned: Make, cell: Cell) -> None:
    """What is released is off by the shares and the roundings alone, which keep their size when they are turned."""
    plan = planned(cell)
    total = sum(add_share(Update(change(d)), plan, ROUND, key(d)).vector for d in range(4))
    off = released(plan, total) - divided(plan, np.sum([change(d) for d in range(4)], axis=0))
    turned = [rotate(change(d), plan.rotation(ROUND)) / plan.grid_step % 1 for d in range(4)]
    rounding = np.mean(np.sum([up * (1 - up) for up in turned], axis=0))
    variance = 4 * plan.place.share_variance + rounding
    std = math.sqrt(variance) * plan.grid_step * float(np.abs(divided(plan, np.ones(1)))[0])
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seeds are fixed
    assert abs(off.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(off.mean()) < 6 * std / math.sqrt(COUNT)


@pytest.mark.parametrize("cell", QUIET)
def test_the_divisor_is_what_was_planned_however_many_survived(planned: Make, cell: Cell) -> None:
    plan = planned(cell, aggregation={"bits": 32})
    turned = [
        quantize(Update(rotate(change(d), plan.rotation(ROUND)) if cell in SHARED else change(d)), plan.grid_step)
        for d in range(4)
    ]
    all_of_them, three = (released(plan, np.sum([c.vector for c in turned[:n]], axis=0)) for n in (4, 3))
    last = released(plan, turned[3].vector)
    assert np.allclose(all_of_them - three, last, rtol=0, atol=1e-12)
    rounding = np.linalg.norm(divided(plan, np.full(padded(COUNT), plan.grid_step / 2)))
    assert np.linalg.norm(last - divided(plan, change(3))) <= rounding
    assert rounding < 0.25 * np.linalg.norm(last)


@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize("clip_norm", [0.5, 1.0])
def test_an_average_of_changes_carries_the_servers_noise_over_the_planned_cohort(
    planned: Make, size: int, clip_norm: float
) -> None:
    plan = planned(("client", "central"), size, privacy={"clip_norm": clip_norm, "noise_multiplier": 2.0})
    release = RELEASES[plan.cell](Sum(np.zeros(COUNT, dtype=np.int64)), plan, key(1), ROUND).vector
    std = 2.0 * (clip_norm + math.sqrt(COUNT) * plan.grid_step) / size
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seed is fixed
    assert abs(release.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(release.mean()) < 6 * std / math.sqrt(COUNT)


def test_an_average_of_changes_is_the_noised_sum_over_the_planned_cohort(planned: Make) -> None:
    plan = planned(("client", "central"))
    total = np.random.default_rng(0).integers(-4 * plan.bound, 4 * plan.bound, COUNT, endpoint=True)
    noise = gaussian(plan.noise_std(COUNT) / plan.noise_step, COUNT, key(2)) * plan.noise_step
    found = RELEASES[plan.cell](Sum(total), plan, key(2), ROUND).vector
    assert np.allclose(found, (total * plan.grid_step + noise) / 4, rtol=0, atol=1e-12 * np.abs(found).max())


def test_a_sum_of_shared_noise_keeps_the_blanks_of_its_blocks_to_itself(planned: Make) -> None:
    plan = planned(("client", "distributed"))
    size = padded(COUNT)
    assert size > COUNT
    total = quantize(Update(rotate(np.append(np.zeros(COUNT), np.ones(size - COUNT)), plan.rotation(1))), 1e-9)
    assert np.abs(released(plan, total.vector, 1)).max() < 1e-6
