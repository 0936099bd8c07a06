"""What a device adds to the sum: on the sums' grid, within its bound, and only from a vector that is clipped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bract.privacy import Clipped, Contribution, Keystream, Mechanism, Plan, Update, mechanism_of
from bract.privacy.encoding.quantization import quantize

Make = Callable[..., Plan]
COUNT = 20_000


def sums(scale: float) -> np.ndarray:
    return scale * np.random.default_rng(0).normal(size=COUNT)


def nothing(*purpose: str | int) -> Keystream:
    raise AssertionError(f"{purpose} was drawn")


def sent(mechanism: Mechanism, vector: np.ndarray) -> np.ndarray:
    """What a device of a record-level plan adds, whose vector is rounded and nothing else."""
    return mechanism.contribute(Clipped(vector), 1, nothing).vector


@pytest.mark.parametrize("tables", [{"privacy": {"noise": "central"}}, {}, {"aggregation": {"bits": 64}}])
def test_a_vector_comes_out_on_the_sums_grid(make: Make, tables: dict[str, Any]) -> None:
    """And nothing else comes out."""
    mechanism = mechanism_of(make(**tables))
    update = sums(mechanism.grid.range / 10)
    found = mechanism.contribute(Clipped(update), 1, nothing)
    assert isinstance(found, Contribution)
    assert found.vector.dtype == np.int64
    assert np.array_equal(found.vector, quantize(update, mechanism.grid.step))
    assert np.abs(found.vector * mechanism.grid.step - update).max() <= mechanism.grid.step * (0.5 + 1e-9)


def test_the_grid_keeps_a_sum_to_what_the_noise_hides(make: Make) -> None:
    """With central noise to 2^-16 of the clip norm, with a device's own to a sixteenth of its deviation."""
    update = sums(0.1)
    central = mechanism_of(make(privacy={"noise": "central", "clip_norm": 0.25}))
    assert np.abs(sent(central, update) * central.grid.step - update).max() <= 0.25 * 2.0**-16
    tables = {"training": {"batch_size": 4, "learning_rate": 0.5}, "privacy": {"noise_multiplier": 40.0}}
    local = mechanism_of(make(**tables))
    assert np.abs(sent(local, update) * local.grid.step - update).max() <= 40.0 * 0.5 / 4 / 16


@pytest.mark.parametrize("noise", ["central", "local"])
@pytest.mark.parametrize("size", [1, 2])
def test_a_vector_saturates_where_the_sum_would_overflow(make: Make, noise: str, size: int) -> None:
    mechanism = mechanism_of(make(privacy={"noise": noise}, cohort={"size": size}))
    bound = mechanism.grid.bound
    found = sent(mechanism, np.array([1e300, -1e300, 1.01 * mechanism.grid.range, 0.0]))
    assert found.tolist() == [bound, -bound, bound, 0]
    assert size * bound < 2 ** (mechanism.grid.ring.bits - 1)


@pytest.mark.parametrize("noise", ["central", "local"])
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_becomes_zeros(make: Make, poison: float, noise: str) -> None:
    mechanism = mechanism_of(make(privacy={"noise": noise}))
    assert sent(mechanism, np.array([1.0, poison, 2.0])).tolist() == [0, 0, 0]


def test_a_contribution_does_not_print_its_numbers(make: Make) -> None:
    mechanism = mechanism_of(make(privacy={"noise": "central"}))
    assert (
        repr(mechanism.contribute(Clipped(np.full(3, 0.125)), 1, nothing)) == "Contribution(shape=(3,), dtype=int64)"
    )


@pytest.mark.parametrize(
    ("unit", "noise"),
    [
        ("record", "central"),
        ("client", "central"),
        ("client", "local"),
        ("record", "distributed"),
        ("client", "distributed"),
    ],
)
def test_a_vector_that_is_not_clipped_is_refused(make: Make, unit: str, noise: str) -> None:
    """Before any noise is drawn. A device's own noised steps are not clipped as a whole: they are refused nowhere."""
    rate = 0.5 if unit == "record" else 1.0
    secure = {"cohort": {"size": 2}, "aggregation": {"protocol": "secagg"}} if noise == "distributed" else {}
    tables: dict[str, Any] = {
        "model": {"parameters": 8},
        "privacy": {"unit": unit, "noise": noise, "sampling_rate": rate},
    }
    mechanism = mechanism_of(make(**tables, **secure))
    with pytest.raises(ValueError, match="that is not clipped"):
        mechanism.contribute(Update(np.zeros(8)), 1, nothing)
