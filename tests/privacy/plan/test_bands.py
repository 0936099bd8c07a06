"""A plan with bands: what it may be, what it leaves as it was, and the grid and weights of its noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter

from bract.privacy import Plan, PlanError, make_plan, mechanism_of, override, parse_tables
from bract.privacy.mechanisms.factorisation import (
    LEAST_BITS,
    MOST_BANDS,
    coefficients,
    release_deviation,
    whole_weights,
)
from bract.privacy.noise.gaussian import MOST_STD
from bract.privacy.plan.schema import MOST_PARAMETERS

TABLES: dict[str, dict[str, Any]] = {
    "data": {"clients": 40},
    "cohort": {"rounds": 30, "size": 5},
    "privacy": {"unit": "client", "noise": "central", "sampling_rate": 1.0, "noise_multiplier": 4.0},
}


def plan(*settings: str) -> Plan:
    return make_plan(override(TABLES, settings), Plan)


def fault(*settings: str) -> str:
    with pytest.raises(PlanError) as caught:
        plan(*settings)
    return caught.value.what


def test_noise_is_independent_unless_the_plan_says_otherwise() -> None:
    assert (plan().bands, plan().correlated) == (1, False)
    assert (plan("privacy.bands=1").bands, plan("privacy.bands=1").correlated) == (1, False)
    assert (plan("privacy.bands=8").bands, plan("privacy.bands=8").correlated) == (8, True)


def test_a_plan_without_bands_has_its_old_digest() -> None:
    """The one that it had before there were any."""
    assert "bands" not in plan().public()["privacy"]
    assert "bands" not in plan().offered()
    assert plan().digest != plan("privacy.bands=2").digest != plan("privacy.bands=3").digest


def test_a_plan_with_bands_reads_back_equal() -> None:
    banded = plan("privacy.bands=8")
    assert Plan.model_validate(parse_tables(banded.offered())).digest == banded.digest


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_room_for_banded_noise_is_the_next_power_of_two(momentum: float) -> None:
    """The room is for the standard deviation of one release, which later releases cancel part of."""
    settings = ["data.clients=1000", "cohort.rounds=100", "privacy.bands=16", f"server.momentum={momentum}"]
    growth = mechanism_of(plan(*settings)).noise_growth
    assert math.frexp(growth)[0] == 0.5
    assert growth / 2 < release_deviation(100, 16, momentum) <= growth


def test_there_can_be_as_many_bands_as_coefficients() -> None:
    room = ["data.clients=1000", "cohort.rounds=100"]
    assert plan(*room, f"privacy.bands={MOST_BANDS}").bands == MOST_BANDS
    for wrong in (MOST_BANDS + 1, 0, 2.0):
        assert "privacy.bands must be" in fault(*room, f"privacy.bands={wrong}")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["privacy.unit=record"], "privacy.bands is for unit = client with noise = central"),
        (["privacy.noise=local"], "privacy.bands is for unit = client with noise = central"),
        (
            ["privacy.noise=distributed", "aggregation.protocol=secagg", "model.parameters=100"],
            "privacy.bands is for unit = client with noise = central",
        ),
        (["privacy.bands=9"], "privacy.bands is 9, so cohorts of 5 need 45 clients, data.clients is 40"),
        (["cohort.rounds=7"], "privacy.bands is 8, above cohort.rounds 7"),
        (["privacy.clip_quantile=0.5"], "which privacy.clip_quantile would scale anew"),
        (["server.optimizer=adam"], "privacy.bands is for server.optimizer = sgd"),
    ],
)
def test_bands_that_would_not_do_are_refused_with_their_reason(settings: list[str], says: str) -> None:
    assert says in fault("privacy.bands=8", *settings)
    plan(*settings, "privacy.bands=1")
    plan("privacy.bands=8")


def test_all_that_is_wrong_with_the_bands_is_told_at_once() -> None:
    says = fault("privacy.bands=31", "privacy.noise=local", "privacy.clip_quantile=0.5", "server.optimizer=adam")
    assert "has 5 faults" in says


def test_bands_change_neither_noise_multiplier_nor_cost() -> None:
    """What a round costs."""
    free = {**TABLES, "privacy": {k: v for k, v in TABLES["privacy"].items() if k != "noise_multiplier"}}
    one, banded = (make_plan(override(free, [f"privacy.bands={bands}"]), Plan) for bands in (1, 8))
    assert mechanism_of(banded).noise_multiplier == mechanism_of(one).noise_multiplier
    assert (mechanism_of(banded).cost(), banded.participations) == (mechanism_of(one).cost(), one.participations)
    assert (mechanism_of(banded).round_event, mechanism_of(banded).server_event) == (
        mechanism_of(one).round_event,
        mechanism_of(one).server_event,
    )
    assert mechanism_of(banded).sensitivity(1000) == pytest.approx(
        mechanism_of(one).sensitivity(1000), rel=0.01
    )  # grids differ


def test_banded_noise_is_added_on_the_sums_grid() -> None:
    """It is made on a finer one."""
    one, banded = plan(), plan("privacy.bands=8")
    assert mechanism_of(one).grid.refinement > 1
    grid = mechanism_of(banded).grid
    assert (grid.refinement, grid.noise_step) == (1, grid.step)
    weights = mechanism_of(banded).weights(26_010)
    assert weights[0] >= 1 << LEAST_BITS
    assert (
        mechanism_of(banded).noise_std(26_010)
        / mechanism_of(banded).grid.noise_step
        * np.linalg.norm(weights.astype(float))
        <= MOST_STD
    )


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_weights_are_those_that_are_best_for_the_servers_steps(momentum: float) -> None:
    banded = plan("privacy.bands=8", f"server.momentum={momentum}")
    expected = whole_weights(
        coefficients(30, 8, momentum), mechanism_of(banded).noise_std(100) / mechanism_of(banded).grid.noise_step
    )
    assert mechanism_of(banded).weights(100).tolist() == expected.tolist()
    assert (mechanism_of(plan("privacy.bands=8")).weights(100).tolist() == expected.tolist()) == (momentum == 0)


@pytest.mark.parametrize("bits", [32, 64])
def test_every_ring_has_room_for_the_weights_of_usual_noise(bits: int) -> None:
    """However large the model."""
    banded = plan("privacy.bands=8", f"aggregation.bits={bits}")
    for parameters in (1, 10**6, MOST_PARAMETERS):
        assert len(mechanism_of(banded).weights(parameters)) == 8


def test_noise_without_room_for_its_weights_is_refused() -> None:
    """It is refused before anything is paid for."""
    assert "does not fit the grid" in fault(
        "privacy.bands=8", "aggregation.bits=64", "privacy.noise_multiplier=100.0"
    )
    assert mechanism_of(plan("aggregation.bits=64", "privacy.noise_multiplier=100.0")).noise_multiplier == 100.0


@pytest.mark.parametrize("momentum", [0.0, 0.9, 0.99])
@pytest.mark.parametrize("bands", [1, 2, 8])
def test_the_ring_has_room_for_the_noise_of_one_release(bands: int, momentum: float) -> None:
    """Ten standard deviations of it: what wraps around would stay in the model for good."""
    banded = plan(f"privacy.bands={bands}", f"server.momentum={momentum}", "cohort.size=2", "cohort.rounds=150")
    std = mechanism_of(banded).noise_std(26_010) / mechanism_of(banded).grid.step
    weights = mechanism_of(banded).weights(26_010) if banded.correlated else np.array([1])
    inverse = lfilter([1.0], weights / weights[0], np.eye(1, 150)[0])
    single = std * np.linalg.norm(weights / weights[0]) * np.linalg.norm(inverse)
    assert single / std == pytest.approx(release_deviation(150, bands, momentum), rel=1e-3)
    assert mechanism_of(banded).grid.bound * 2 + 10 * single < 1 << (mechanism_of(banded).grid.ring.bits - 1)
