"""Shares of noise in layers: what stays in a sum is enough, hardly more, and what is charged."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bract.privacy import Composed, Plan, PlanError, PoissonSampled, Skellam, make_plan, mechanism_of
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.planning.forecast import signal


def plan(size: int = 100, shares: str = "xnoise", noise: str = "distributed", **aggregation: Any) -> Plan:
    tables: dict[str, dict[str, Any]] = {
        "data": {"clients": size},
        "model": {"parameters": 5000},
        "cohort": {"rounds": 5, "size": size},
        "privacy": {"noise": noise, "shares": shares, "epsilon": 1e6, "noise_multiplier": 2.0},
        "aggregation": {"protocol": "secagg"} | aggregation,
    }
    return make_plan(tables, Plan)


def place(which: Plan) -> Distributed:
    assert isinstance(mechanism_of(which), Distributed)
    return mechanism_of(which)


def charged(which: Plan, survivors: int) -> Skellam:
    event = mechanism_of(which).event("server", survivors)
    assert isinstance(event, Composed)
    assert isinstance(event.event, PoissonSampled)
    assert isinstance(event.event.event, Skellam)
    return event.event.event


sound = st.builds(
    plan,
    st.integers(10, 250),
    colluders=st.sampled_from([0.0, 0.1, 0.2, 1 / 3]),
    dropouts=st.sampled_from([0.0, 0.1, 0.3]),
)


@given(sound, st.data())
def test_what_survivors_keep_is_claimed_and_charged(which: Plan, data: st.DataObject) -> None:
    """The sum of the variances that stay, share by share and layer by layer."""
    shared = place(which)
    survivors = data.draw(st.integers(which.least_survivors, which.cohort.size))
    each = shared.share_variance + sum(shared.layers[: shared.kept_layers(survivors)])
    arrived = (survivors - which.colluders) * each
    assert arrived >= shared.variance * (1 - 1e-9)
    event = charged(which, survivors)
    assert event.variance == pytest.approx(arrived)
    assert event.variance / event.noise_multiplier**2 == pytest.approx(
        shared.sensitivity(5000) ** 2 / mechanism_of(which).grid.step ** 2
    )


@given(sound)
def test_noise_is_as_claimed_with_no_and_all_dropouts(which: Plan) -> None:
    """As many drop out as may, or nobody does."""
    fewest, all_ = (charged(which, n).noise_multiplier for n in (which.least_survivors, which.cohort.size))
    assert fewest == pytest.approx(mechanism_of(which).noise_multiplier)
    most = 1.1 if not place(which).layers else 1.0
    assert (
        mechanism_of(which).noise_multiplier * (1 - 1e-9)
        <= all_
        <= mechanism_of(which).noise_multiplier * most**0.5 * (1 + 1e-9)
    )


@given(sound, st.data())
def test_layers_bring_a_device_to_its_share_of_the_floor(which: Plan, data: st.DataObject) -> None:
    """To the share that the floor asks of it."""
    shared = place(which)
    floor = shared.variance / shared.numbers.honest
    assert shared.share_variance + sum(shared.layers) == pytest.approx(floor)
    assert all(layer > 0 for layer in shared.layers)
    fewer = data.draw(st.integers(which.least_survivors, which.cohort.size))
    assert shared.kept_layers(fewer) >= shared.kept_layers(which.cohort.size) == 0
    assert shared.kept_layers(which.least_survivors) == len(shared.layers)


@given(sound, st.data())
def test_the_ring_has_room_for_the_noise_that_is_left(which: Plan, data: st.DataObject) -> None:
    shared = place(which)
    survivors = data.draw(st.integers(which.least_survivors, which.cohort.size))
    left = survivors * (shared.share_variance + sum(shared.layers[: shared.kept_layers(survivors)]))
    assert 5.9 * left**0.5 <= shared.grid.range / mechanism_of(which).grid.step


def test_with_the_floor_nothing_is_taken_off() -> None:
    shared = place(plan(shares="floor"))
    assert (shared.layers, shared.kept_layers(100), shared.numbers.withstood) == ((), 0, (30,))


def test_a_whole_cohort_has_less_noise_than_with_the_floor() -> None:
    """Of 100 devices 33 may collude and 30 drop out: 67 honest shares instead of 37."""
    floor, layered = (signal(plan(shares=shares)).noise for shares in ("floor", "xnoise"))
    assert layered / floor == pytest.approx((37 / 67) ** 0.5, rel=0.01)


@pytest.mark.parametrize("noise", ["central", "local"])
def test_only_shared_noise_has_layers(noise: str) -> None:
    with pytest.raises(PlanError, match=f"xnoise is for noise = distributed, not for {noise}"):
        plan(noise=noise)
