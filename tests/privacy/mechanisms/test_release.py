"""The server's half of every mechanism: what it releases of a sum, and what it takes no noise for."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any, get_args

import numpy as np
import pytest

from bract.privacy import Clipped, Keystream, Mechanism, Plan, Release, Sum, make_plan, mechanism_of
from bract.privacy.encoding.quantization import quantize
from bract.privacy.encoding.rotation import padded, rotate
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.plan.schema import Privacy

Cell = tuple[str, str]
COUNT, ROUND, RATE, BATCH = 5000, 4, 0.25, 40
UNITS, PLACES = (get_args(Privacy.model_fields[name].annotation) for name in ("unit", "noise"))
CELLS = list(product(UNITS, PLACES))
SHARED = [("record", "distributed"), ("client", "distributed")]
NOISED = [*SHARED, ("record", "local"), ("client", "local")]
"""Cells whose sums bring their noise along."""


def planned(cell: Cell, size: int = 4, **tables: dict[str, Any]) -> Mechanism:
    """The mechanism of a cell's plan for so many devices."""
    unit, noise = cell
    sections: dict[str, dict[str, Any]] = {
        "data": {"clients": size},
        "model": {"parameters": COUNT},
        "training": {"batch_size": BATCH, "learning_rate": RATE},
        "cohort": {"rounds": 3, "size": size, "minimum": 2},
        "privacy": {
            "unit": unit,
            "noise": noise,
            "epsilon": 1e9,
            "delta": 1e-3,
            "sampling_rate": 0.5 if unit == "record" else 1.0,
            "noise_multiplier": 3.0,
        },
        "aggregation": {"protocol": "secagg"},
    }
    return mechanism_of(make_plan({name: value | tables.get(name, {}) for name, value in sections.items()}, Plan))


def shared(cell: Cell, size: int = 4) -> Distributed:
    mechanism = planned(cell, size)
    assert isinstance(mechanism, Distributed)
    return mechanism


class NoKeystream(Keystream):
    """A keystream that must not be used."""

    def bytes(self, count: int) -> bytes:
        raise AssertionError


def key(*numbers: int) -> Keystream:
    return Keystream(bytes([*numbers, *[0] * (32 - len(numbers))]))


def draw_of(device: int) -> Callable[..., Keystream]:
    return lambda *purpose: key(device)


def change(device: int) -> np.ndarray:
    return 0.01 * np.random.default_rng(device).normal(size=COUNT)


def changes(devices: int) -> np.ndarray:
    """The sum of what so many devices found."""
    return np.sum([change(device) for device in range(devices)], axis=0)


def divided(mechanism: Mechanism, total: np.ndarray) -> np.ndarray:
    """The sum of what devices found over the plan's public divisor, as a change of the model."""
    plan = mechanism.plan
    return -RATE * total / BATCH if plan.cell == ("record", "distributed") else total / plan.cohort.size


def released(mechanism: Mechanism, total: np.ndarray, round: int = ROUND) -> np.ndarray:
    """What is released of a sum that brings its noise along, or that has none."""
    release, correlation = mechanism.release(Sum(total), round, NoKeystream(bytes(32)))
    assert isinstance(release, Release)
    assert correlation is None
    assert release.vector.shape == (COUNT,)
    return release.vector


def test_each_unit_and_each_place_of_noise_has_a_release() -> None:
    kinds = {cell: type(planned(cell)) for cell in CELLS}
    assert len(CELLS) == 6
    assert len(set(kinds.values())) == 3
    for _, noise in CELLS:
        assert kinds["record", noise] is kinds["client", noise]


@pytest.mark.parametrize("cell", CELLS)
def test_a_release_leaves_the_sum_as_it_is_and_prints_no_number(cell: Cell) -> None:
    mechanism = planned(cell)
    count = mechanism.coordinates(COUNT)
    opened = Sum(np.random.default_rng(0).integers(-mechanism.grid.bound, mechanism.grid.bound, count))
    opened.vector.flags.writeable = False
    release = mechanism.release(opened, 1, key(7))[0]
    assert repr(release) == f"Release(shape=({COUNT},), dtype=float64)"
    assert repr(opened) == f"Sum(shape=({count},), dtype=int64)"


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("bits", [None, 64])
@pytest.mark.parametrize("unit", UNITS)
def test_a_local_release_is_the_sum_over_the_cohort(unit: str, size: int, bits: int | None) -> None:
    aggregation = {"protocol": "sum"} | ({} if bits is None else {"bits": bits})
    mechanism = planned((unit, "local"), size, privacy={"clip_norm": 0.5}, aggregation=aggregation)
    total = np.random.default_rng(0).integers(-mechanism.grid.bound, mechanism.grid.bound, COUNT)
    step = 0.5 / 2**30 if bits == 64 else mechanism.grid.range / mechanism.grid.bound
    assert np.array_equal(released(mechanism, total), total * step / size)


@pytest.mark.parametrize("cell", SHARED)
@pytest.mark.parametrize("size", [4, 7])
def test_a_sum_of_rotated_vectors_is_rotated_back_exactly(
    cell: Cell, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without rounding and noise, which the grid's numbers stand for: the release is the plain sum of the cohort."""
    mechanism = shared(cell, size)
    monkeypatch.setattr("bract.privacy.mechanisms.base.dequantize", lambda vector, step: vector)
    total = np.sum([rotate(change(device), mechanism.rotation(ROUND)) for device in range(size)], axis=0)
    expected = divided(mechanism, changes(size))
    assert np.abs(released(mechanism, total) - expected).max() < 1e-9 * np.abs(expected).max()
    assert np.abs(released(mechanism, total, ROUND + 1) - expected).max() > 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("cell", SHARED)
def test_a_sum_with_its_noise_is_released_as_it_is_but_rotated(cell: Cell) -> None:
    """What is released is off by the shares and the roundings alone, which keep their size when they are rotated."""
    mechanism = shared(cell)
    sent = [mechanism.contribute(Clipped(change(d)), ROUND, draw_of(d)).vector for d in range(4)]
    off = released(mechanism, np.sum(sent, axis=0)) - divided(mechanism, changes(4))
    up = [rotate(change(d), mechanism.rotation(ROUND)) / mechanism.grid.step % 1 for d in range(4)]
    rounding = np.mean(np.sum([share * (1 - share) for share in up], axis=0))
    variance = 4 * mechanism.share_variance + rounding
    std = math.sqrt(variance) * mechanism.grid.step * float(np.abs(divided(mechanism, np.ones(1)))[0])
    # six standard errors each: a false alarm in 2e-9 of seeds, and the seeds are fixed
    assert abs(off.std() / std - 1) < 6 / math.sqrt(2 * COUNT)
    assert abs(off.mean()) < 6 * std / math.sqrt(COUNT)


@pytest.mark.parametrize("cell", NOISED)
def test_the_divisor_is_what_was_planned_however_many_survived(cell: Cell) -> None:
    mechanism = planned(cell, aggregation={"bits": 32})
    vectors = [change(device) for device in range(4)]
    if isinstance(mechanism, Distributed):
        vectors = [rotate(vector, mechanism.rotation(ROUND)) for vector in vectors]
    sent = [quantize(vector, mechanism.grid.step) for vector in vectors]
    all_of_them, three = (released(mechanism, np.sum(sent[:count], axis=0)) for count in (4, 3))
    last = released(mechanism, sent[3])
    assert np.allclose(all_of_them - three, last, rtol=0, atol=1e-12)
    rounding = np.linalg.norm(divided(mechanism, np.full(padded(COUNT), mechanism.grid.step / 2)))
    assert np.linalg.norm(last - divided(mechanism, change(3))) <= rounding
    assert rounding < 0.25 * np.linalg.norm(last)


def test_a_sum_of_shared_noise_keeps_the_padding_of_its_blocks() -> None:
    mechanism = shared(("client", "distributed"))
    size = padded(COUNT)
    assert size > COUNT
    padding = np.append(np.zeros(COUNT), np.ones(size - COUNT))
    total = quantize(rotate(padding, mechanism.rotation(1)), 1e-9)
    assert np.abs(released(mechanism, total, 1)).max() < 1e-6
