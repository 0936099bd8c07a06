"""All six cells of unit times place of noise: what a round costs, to whom, and that it stays within the budget.

Of the noise that devices share there is more in test_distributed.py.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bract.privacy import (
    Budget,
    Composed,
    Event,
    Gaussian,
    Keystream,
    Plan,
    PlanError,
    PoissonSampled,
    Skellam,
    Sum,
    Unbounded,
    make_plan,
    mechanism_of,
)
from bract.privacy.accounting.accountant import epsilon, renyi
from bract.privacy.mechanisms.central import Banded, Central
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.mechanisms.local import Local

CELLS = [(unit, noise) for unit in ("record", "client") for noise in ("local", "distributed", "central")]
cells = pytest.mark.parametrize(("unit", "noise"), CELLS)
RATE = 0.1


def tables(unit: str, noise: str, **changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of a sound plan of a cell: 20 of 40 clients in each of 12 rounds, so 6 rounds for each."""
    made: dict[str, dict[str, Any]] = {
        "data": {"clients": 40},
        "model": {"parameters": 5000},
        "cohort": {"rounds": 12, "size": 20},
        "privacy": {
            "unit": unit,
            "noise": noise,
            "epsilon": 4.0,
            "delta": 1e-5,
            "sampling_rate": RATE if unit == "record" else 1.0,
        },
        "aggregation": {"protocol": "secagg", "colluders": 0.2, "dropouts": 0.3},
    }
    for table, keys in changes.items():
        made[table] = made.get(table, {}) | keys
    return made


def plan_of(unit: str, noise: str, **changes: dict[str, Any]) -> Plan:
    return make_plan(tables(unit, noise, **changes), Plan)


def own(unit: str, event: Event) -> Event:
    """One noised sum as a unit sees it: a record is in it by chance."""
    return PoissonSampled(RATE, event) if unit == "record" else event


def test_every_cell_has_the_mechanism_of_its_place_of_noise() -> None:
    kinds = {"local": Local, "distributed": Distributed, "central": Central}
    for unit, noise in CELLS:
        plan = plan_of(unit, noise, privacy={"noise_multiplier": 9.0})
        assert type(mechanism_of(plan)) is kinds[noise]
        assert plan.cell == (unit, noise)


# What a round costs


@pytest.mark.parametrize("unit", ["record", "client"])
def test_everyone_sees_the_same_gaussian_of_local_noise(unit: str) -> None:
    """Devices add the noise themselves."""
    plan = plan_of(unit, "local", privacy={"noise_multiplier": 9.0})
    assert mechanism_of(plan).server_event == mechanism_of(plan).round_event == Composed(own(unit, Gaussian(9.0)), 1)


@pytest.mark.parametrize("unit", ["record", "client"])
def test_nothing_bounds_what_the_server_sees_itself(unit: str) -> None:
    """It adds the noise."""
    plan = plan_of(unit, "central", privacy={"noise_multiplier": 9.0})
    assert mechanism_of(plan).server_event == Unbounded()
    assert mechanism_of(plan).round_event == Composed(own(unit, Gaussian(9.0)), 1)


@pytest.mark.parametrize("unit", ["record", "client"])
def test_nobody_pays_for_the_colluders_shares_of_the_noise(unit: str) -> None:
    """Of 20 devices 14 survive at least, 3 of which may leave their shares out or tell them: 11 are claimed."""
    plan = plan_of(unit, "distributed", privacy={"noise_multiplier": 9.0})
    std = 9.0 * math.hypot(1.0, math.sqrt(8192) * mechanism_of(plan).grid.step / 2) / mechanism_of(plan).grid.step
    for survivors, shares in ((14, 11), (20, 17)):
        event = mechanism_of(plan).event("server", survivors)
        assert isinstance(event, Composed)
        inner = event.event.event if isinstance(event.event, PoissonSampled) else event.event
        assert isinstance(inner, Skellam)
        assert event == mechanism_of(plan).event("released", survivors) == Composed(own(unit, inner), 1)
        assert inner.noise_multiplier == pytest.approx(9.0 * math.sqrt(shares / 11), rel=1e-12)
        assert inner.variance == pytest.approx(std**2 * shares / 11, rel=1e-12)


@pytest.mark.parametrize(("unit", "expected"), [("record", 5), ("client", 1)])
def test_a_local_step_of_records_or_a_round_is_noised(unit: str, expected: int) -> None:
    """Local steps are noised one by one where records are protected, and once where clients are."""
    plan = plan_of(unit, "local", training={"local_steps": 5}, privacy={"noise_multiplier": 20.0})
    assert mechanism_of(plan).round_event == Composed(own(unit, Gaussian(20.0)), expected)
    assert plan.sums == expected


@pytest.mark.parametrize("noise", ["distributed", "central"])
def test_a_clients_local_steps_cost_what_one_does(noise: str) -> None:
    one, five = (plan_of("client", noise, training={"local_steps": steps}) for steps in (1, 5))
    assert mechanism_of(one).round_event == mechanism_of(five).round_event
    assert mechanism_of(one).noise_multiplier == mechanism_of(five).noise_multiplier


@cells
def test_a_round_without_a_count_is_that_of_the_fewest(unit: str, noise: str) -> None:
    """No count means the fewest survivors that the plan allows."""
    plan = plan_of(unit, noise, privacy={"noise_multiplier": 9.0})
    for view, event in (("server", mechanism_of(plan).server_event), ("released", mechanism_of(plan).round_event)):
        assert mechanism_of(plan).event(view, plan.least_survivors) == mechanism_of(plan).event(view) == event  # type: ignore[arg-type]


@pytest.mark.parametrize(("unit", "noise"), [cell for cell in CELLS if cell[1] != "distributed"])
def test_who_survives_matters_not_where_one_adds_all_noise(unit: str, noise: str) -> None:
    """One party adds it: the server, or each device for itself."""
    plan = plan_of(unit, noise, privacy={"noise_multiplier": 9.0})
    assert mechanism_of(plan).event("released", 1) == mechanism_of(plan).event("released", 20)
    assert mechanism_of(plan).event("server", 1) == mechanism_of(plan).event("server", 20)


@cells
def test_the_server_never_loses_less_than_it_releases(unit: str, noise: str) -> None:
    plan = plan_of(unit, noise, privacy={"noise_multiplier": 9.0})
    for survivors in (14, 17, 20):
        server, released = (mechanism_of(plan).event(view, survivors) for view in ("server", "released"))  # type: ignore[arg-type]
        assert all(renyi(server, order) >= renyi(released, order) for order in (2, 8, 64, 1024))
        assert epsilon(server, 1e-5) >= epsilon(released, 1e-5) > 0


# Calibration and the budget


@cells
@pytest.mark.parametrize("target", [0.5, 3.0, 9.0])
def test_calibrated_noise_meets_the_budget_from_below(unit: str, noise: str, target: float) -> None:
    """It is within one percent of it."""
    plan = plan_of(unit, noise, privacy={"epsilon": target})
    assert 0.99 * target <= mechanism_of(plan).cost() <= target
    assert plan.privacy.noise_multiplier == mechanism_of(plan).noise_multiplier


@cells
def test_the_cost_is_that_of_all_rounds_of_a_client(unit: str, noise: str) -> None:
    """In the view of the budget."""
    plan = plan_of(unit, noise)
    view = "released" if noise == "central" else "server"
    assert mechanism_of(plan).budget == Budget(4.0, 1e-5, unit, view)
    assert plan.participations == 6
    assert mechanism_of(plan).cost() == epsilon(Composed(mechanism_of(plan).event(view), 6), 1e-5)


@cells
def test_one_round_more_for_a_client_needs_more_noise(unit: str, noise: str) -> None:
    """The old noise is refused."""
    plan, longer = plan_of(unit, noise), plan_of(unit, noise, cohort={"rounds": 14})
    assert mechanism_of(longer).noise_multiplier > mechanism_of(plan).noise_multiplier
    assert mechanism_of(longer).cost() <= 4.0
    with pytest.raises(PlanError, match="14 rounds at noise multiplier"):
        plan_of(unit, noise, cohort={"rounds": 14}, privacy={"noise_multiplier": mechanism_of(plan).noise_multiplier})


@cells
def test_a_plan_reads_back_with_the_same_noise_grid_and_cost(unit: str, noise: str) -> None:
    plan = plan_of(unit, noise)
    again = make_plan(plan.public(), Plan)
    assert again == plan
    assert again.digest == plan.digest
    assert (mechanism_of(again).grid.step, mechanism_of(again).noise_multiplier, mechanism_of(again).cost()) == (
        mechanism_of(plan).grid.step,
        mechanism_of(plan).noise_multiplier,
        mechanism_of(plan).cost(),
    )


@cells
def test_a_plan_equals_its_like_whatever_was_computed(unit: str, noise: str) -> None:
    """Figures may have been computed from either."""
    one, other = plan_of(unit, noise), plan_of(unit, noise)
    for value in (mechanism_of(one).grid.range, mechanism_of(one).grid.step, mechanism_of(other).grid.coarsest):
        assert value > 0
    assert one == other
    assert one != plan_of(unit, noise, privacy={"delta": 1e-6})


@pytest.mark.parametrize("unit", ["record", "client"])
def test_shared_noise_is_at_least_a_trusted_servers(unit: str) -> None:
    """And at most a sixth more: it has no loss distribution that is proven, and pays by the Renyi bound."""
    shared, central = plan_of(unit, "distributed"), plan_of(unit, "central")
    assert (
        mechanism_of(central).noise_multiplier
        < mechanism_of(shared).noise_multiplier
        < 1.17 * mechanism_of(central).noise_multiplier
    )


@cells
def test_what_only_models_show_is_within_the_budget_too(unit: str, noise: str) -> None:
    """The view of those who see only models."""
    plan = plan_of(unit, noise)
    assert epsilon(Composed(mechanism_of(plan).round_event, plan.participations), 1e-5) <= 4.0


# How many coordinates


@pytest.mark.parametrize(("noise", "expected"), [("local", 5000), ("distributed", 8192), ("central", 5000)])
def test_devices_send_a_coordinate_for_each_parameter(noise: str, expected: int) -> None:
    """And whole blocks of rotated ones."""
    plan = plan_of("client", noise, privacy={"noise_multiplier": 9.0})
    assert mechanism_of(plan).coordinates(5000) == expected


@pytest.mark.parametrize(("noise", "expected"), [("local", 4097), ("distributed", 8192), ("central", 4097)])
def test_a_clip_norm_that_adapts_takes_one_coordinate_more(noise: str, expected: int) -> None:
    changes = {"model": {"parameters": 4096}, "privacy": {"noise_multiplier": 9.0, "clip_quantile": 0.5}}
    plan = plan_of("client", noise, **changes)
    assert mechanism_of(plan).coordinates(4096) == expected
    assert mechanism_of(plan).exact_sensitivity == pytest.approx(math.hypot(1, 1 / 8))


def test_shared_noise_releases_a_number_for_each_parameter() -> None:
    """What pads the blocks comes off, and so does the coordinate that adapts the clip norm."""
    changes = {"model": {"parameters": 4096}, "privacy": {"noise_multiplier": 9.0, "clip_quantile": 0.5}}
    mechanism = mechanism_of(plan_of("client", "distributed", **changes))
    release, _ = mechanism.release(Sum(np.zeros(8192, dtype=np.int64)), 1, Keystream(bytes(32)))
    assert len(release.vector) == 4096
    assert release.inside == 0.5


@pytest.mark.parametrize("unit", ["record", "client"])
def test_the_rotation_of_a_round_is_public_and_its_own(unit: str) -> None:
    plans = [plan_of(unit, "distributed", privacy={"noise_multiplier": noise}) for noise in (9.0, 9.5)]
    one, other = map(mechanism_of, plans)
    assert isinstance(one, Distributed)
    assert isinstance(other, Distributed)
    seeds = {one.rotation(1), one.rotation(2), one.rotation(257), other.rotation(1)}
    assert len(seeds) == 4
    assert {len(seed) for seed in seeds} == {32}
    again = mechanism_of(make_plan(plans[0].public(), Plan))
    assert isinstance(again, Distributed)
    assert one.rotation(1) == again.rotation(1)


def test_bands_change_central_noise_alone() -> None:
    """The rules refuse the others; a mechanism that is asked for one of them is that of its place all the same."""
    for unit, noise in CELLS:
        plan = plan_of(unit, noise, privacy={"noise_multiplier": 9.0})
        banded = plan.model_copy(update={"privacy": plan.privacy.model_copy(update={"bands": 2})})
        assert isinstance(mechanism_of(banded), Banded) == (noise == "central")
