"""Noise that devices share inside the secure sum: how many shares, how large, on what grid, and what is left."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from opacus.accountants.analysis.rdp import compute_rdp, get_privacy_spent

from bract.models import count_parameters
from bract.privacy import (
    Composed,
    Event,
    Keystream,
    Plan,
    PlanError,
    PoissonSampled,
    Ring,
    Skellam,
    Sum,
    make_plan,
    mechanism_of,
    read_tables,
)
from bract.privacy.accounting.accountant import epsilon, renyi
from bract.privacy.encoding.ring import WIDTHS
from bract.privacy.encoding.rotation import padded
from bract.privacy.mechanisms.distributed import Distributed
from bract.privacy.noise.skellam import LEAST_VARIANCE, MOST_VARIANCE, skellam
from bract.privacy.plan.thresholds import COMPLETE
from bract.privacy.secagg.graph import choose_graph

EXPERIMENTS = Path(__file__).parents[3] / "simulations" / "experiments"


def tables(size: int = 20, unit: str = "client", **changes: dict[str, Any]) -> dict[str, Any]:
    """Tables of a plan in which all of so many clients take part in each of five rounds."""
    made: dict[str, dict[str, Any]] = {
        "data": {"clients": size},
        "model": {"parameters": 5000},
        "cohort": {"rounds": 5, "size": size},
        "privacy": {
            "unit": unit,
            "noise": "distributed",
            "epsilon": 4.0,
            "delta": 1e-5,
            "sampling_rate": 1.0 if unit == "client" else 0.1,
        },
        "aggregation": {"protocol": "secagg", "colluders": 0.2, "dropouts": 0.3},
    }
    for table, keys in changes.items():
        made[table] = made.get(table, {}) | keys
    return made


def plan_of(size: int = 20, unit: str = "client", **changes: dict[str, Any]) -> Plan:
    return make_plan(tables(size, unit, **changes), Plan)


def place(plan: Plan) -> Distributed:
    assert isinstance(mechanism_of(plan), Distributed)
    return mechanism_of(plan)


def noised_sum(event: Event) -> Skellam:
    inner = event.event if isinstance(event, Composed) else event
    inner = inner.event if isinstance(inner, PoissonSampled) else inner
    assert isinstance(inner, Skellam)
    return inner


GIVEN = {"noise_multiplier": 2.0, "epsilon": 1e6}
"""Given, so that nothing is calibrated."""

accepted = st.builds(
    lambda size, colluders, dropouts, minimum, unit, parameters, noise, clip, batch: tables(
        size,
        unit,
        model={"parameters": parameters},
        training={"batch_size": batch},
        cohort={"minimum": min(minimum, size), "rounds": 1},
        aggregation={"colluders": colluders, "dropouts": dropouts},
        privacy={"noise_multiplier": noise, "epsilon": 1e15, "clip_norm": clip},
    ),
    st.integers(2, 256),
    st.floats(0, 0.499),
    st.floats(0, 0.499),
    st.integers(1, 256),
    st.sampled_from(["record", "client"]),
    st.integers(1, 10**7),
    st.floats(0.1, 100),
    st.floats(1e-3, 1e3),
    st.integers(1, 10_000),
)


# How many shares


@pytest.mark.parametrize(
    ("size", "colluders", "dropouts", "minimum", "survivors", "working"),
    [
        (11, 0.1, 0.1, 1, 10, 1),
        (100, 0.05, 0.05, 1, 95, 4),
        (20, 0.2, 0.3, 1, 14, 3),
        (10, 1 / 3, 0.3, 1, 7, 3),
        (10, 1 / 3, 0.3, 9, 9, 3),
        (10, 0.0, 0.0, 1, 10, 0),
        (2, 0.499, 0.49, 1, 2, 0),
        (256, 0.25, 0.25, 1, 192, 63),
        (300, 0.1, 0.2, 1, 240, 29),  # a sparse graph: its threshold is of neighbours, not of devices
        (1000, 0.05, 0.3, 1, 700, 49),
    ],
)
def test_shares_are_sized_for_the_fewest_less_the_colluders(
    size: int, colluders: float, dropouts: float, minimum: int, survivors: int, working: int
) -> None:
    """The fewest survivors count."""
    aggregation = {"colluders": colluders, "dropouts": dropouts}
    plan = plan_of(size, cohort={"minimum": minimum}, aggregation=aggregation, privacy=GIVEN)
    assert (plan.least_survivors, plan.colluders) == (survivors, working)
    assert place(plan).numbers.honest == survivors - working
    assert choose_graph(size, working, dropouts).complete == (size <= COMPLETE)


@given(accepted)
def test_there_is_an_honest_share_and_a_sum_that_can_open(given_tables: dict[str, Any]) -> None:
    plan = Plan.model_validate(given_tables)
    graph = choose_graph(plan.cohort.size, plan.colluders, plan.aggregation.dropouts)
    assert place(plan).numbers.honest >= 1
    assert max(plan.cohort.minimum, graph.threshold) <= plan.least_survivors <= plan.cohort.size
    assert plan.least_survivors >= plan.cohort.size * (1 - plan.aggregation.dropouts) - 1e-9
    assert 2 * plan.least_survivors > plan.cohort.size + plan.colluders


# How large they are


@given(accepted)
def test_claimed_shares_bring_the_planned_noise(
    given_tables: dict[str, Any],
) -> None:
    """It is the noise multiplier times the sensitivity."""
    plan = Plan.model_validate(given_tables)
    step, coordinates = mechanism_of(plan).grid.step, padded(plan.parameters)
    sensitivity = math.sqrt(plan.privacy.clip_norm**2 + coordinates * step**2 / 4)
    assert mechanism_of(plan).sensitivity(plan.parameters) == pytest.approx(sensitivity, rel=1e-12)
    together = place(plan).share_variance * place(plan).numbers.honest
    assert together == pytest.approx((mechanism_of(plan).noise_multiplier * sensitivity / step) ** 2, rel=1e-9)
    assert mechanism_of(plan).noise_std(plan.parameters) == pytest.approx(step * math.sqrt(together), rel=1e-9)
    assert (mechanism_of(plan).grid.noise_step, mechanism_of(plan).grid.refinement) == (step, 1)


@given(accepted)
def test_noise_is_planned_for_a_cost_that_it_never_exceeds(given_tables: dict[str, Any]) -> None:
    plan = Plan.model_validate(given_tables)
    assume(mechanism_of(plan).grid.step <= mechanism_of(plan).grid.coarsest)
    planned, found = (
        noised_sum(place(plan).planned(mechanism_of(plan).noise_multiplier)),
        noised_sum(mechanism_of(plan).server_event),
    )
    assert planned.noise_multiplier == mechanism_of(plan).noise_multiplier == pytest.approx(found.noise_multiplier)
    assert all(renyi(found, order) <= renyi(planned, order) * (1 + 1e-9) for order in (2, 3, 10, 100, 2048))
    assert type(place(plan).planned(1.0)) is type(mechanism_of(plan).server_event.event)  # type: ignore[union-attr]


@given(accepted)
def test_more_survivors_cost_less_and_colluders_do_not_count(given_tables: dict[str, Any]) -> None:
    """They may tell the server their shares, or leave them out and look at the model: both views pay alike."""
    plan = Plan.model_validate(given_tables)
    events = [
        noised_sum(mechanism_of(plan).event("server", n)) for n in range(plan.least_survivors, plan.cohort.size + 1)
    ]
    for number, event in enumerate(events, plan.least_survivors):
        shares = number - plan.colluders
        assert event.variance == pytest.approx(shares * place(plan).share_variance, rel=1e-12)
        assert mechanism_of(plan).event("released", number) == mechanism_of(plan).event("server", number)
    for order in (2, 40):
        assert all(more < fewer for fewer, more in pairwise(renyi(event, order) for event in events))


# What is left of them


def recomputed(plan: Plan, variance: float) -> float:
    """The epsilon of all rounds by Opacus if the sum had Gaussian noise of that variance, in steps squared."""
    square = (plan.privacy.clip_norm / mechanism_of(plan).grid.step) ** 2 + padded(plan.parameters) / 4
    orders = [*np.arange(1.125, 16, 0.125).tolist(), *range(16, 200)]
    rate, rounds = plan.privacy.sampling_rate, plan.participations
    curve = compute_rdp(q=rate, noise_multiplier=math.sqrt(variance / square), steps=rounds, orders=orders)
    return float(get_privacy_spent(orders=orders, rdp=curve, delta=plan.privacy.delta)[0])


@pytest.mark.parametrize("unit", ["record", "client"])
@pytest.mark.parametrize(("survivors", "least"), [(20, 0.0), (18, 0.0), (14, 0.98)])
def test_the_noise_left_keeps_the_claim_as_assumed(unit: str, survivors: int, least: float) -> None:
    """None, a tenth or three tenths of 20 drop out, and 3 of the others tell the server their shares."""
    plan = plan_of(20, unit)
    unknown = (survivors - 3) * place(plan).share_variance
    assert (
        least * 4.0
        < recomputed(plan, unknown)
        <= epsilon(Composed(mechanism_of(plan).event("server", survivors), 5), 1e-5)
        <= 4.0
    )


@pytest.mark.parametrize("survivors", [20, 18, 14])
def test_the_shares_that_are_drawn_keep_the_claim(survivors: int) -> None:
    """The variance of 250,000 drawn sums, 6 standard errors either way: false alarm 2e-9."""
    plan, count = plan_of(20), 250_000
    honest = [Keystream(bytes([number]) * 32) for number in range(survivors - plan.colluders)]
    drawn = sum(skellam(place(plan).share_variance, count, keystream) for keystream in honest)
    error = 1 + 6 * math.sqrt(2 / count)
    found, charged = float(np.var(drawn)), noised_sum(mechanism_of(plan).event("server", survivors)).variance
    assert charged / error < found < charged * error
    assert recomputed(plan, found * error) <= epsilon(
        Composed(mechanism_of(plan).event("server", survivors), 5), 1e-5
    )


@pytest.mark.parametrize("unit", ["record", "client"])
def test_one_more_dropout_or_colluder_would_break_the_claim(unit: str) -> None:
    """One more than assumed."""
    plan = plan_of(20, unit)
    assert recomputed(plan, (13 - 3) * place(plan).share_variance) > 4.0
    assert recomputed(plan, (14 - 4) * place(plan).share_variance) > 4.0


# The grid and the ring


@given(accepted)
def test_the_ring_is_the_narrowest_that_is_fine_enough(given_tables: dict[str, Any]) -> None:
    plan = Plan.model_validate(given_tables)
    grid = mechanism_of(plan).grid
    assert grid.step <= grid.coarsest or grid.ring.bits == WIDTHS[-1]
    for bits in WIDTHS[: WIDTHS.index(grid.ring.bits)]:
        narrower = plan.model_copy(update={"aggregation": plan.aggregation.model_copy(update={"bits": bits})})
        assert mechanism_of(narrower).grid.step > grid.coarsest


@given(accepted)
def test_the_ring_has_room_for_all_noise_and_an_agreeing_sum(given_tables: dict[str, Any]) -> None:
    """Six deviations of the noise (less a hundredth), and eight times the even share of the sum, in a coordinate."""
    plan = Plan.model_validate(given_tables)
    assume(mechanism_of(plan).grid.step <= mechanism_of(plan).grid.coarsest)
    noise = 5.94 * math.sqrt(plan.cohort.size * place(plan).share_variance)
    weight = plan.training.batch_size if plan.privacy.unit == "record" else plan.cohort.size
    even = weight * plan.privacy.clip_norm / mechanism_of(plan).grid.step / math.sqrt(padded(plan.parameters))
    assert noise + 8 * even <= mechanism_of(plan).grid.bound * (1 + 1e-3)
    grid = mechanism_of(plan).grid
    assert grid.bound == 2 ** (grid.ring.bits - 1) - 1 or grid.ring.bits == 64


@given(accepted)
def test_rounding_adds_a_fiftieth_to_the_sensitivity(
    given_tables: dict[str, Any],
) -> None:
    """At most, and a clip norm has 64 steps."""
    plan = Plan.model_validate(given_tables)
    assume(mechanism_of(plan).grid.step <= mechanism_of(plan).grid.coarsest)
    assert 1 <= mechanism_of(plan).sensitivity(plan.parameters) / plan.privacy.clip_norm <= 1.02
    assert plan.privacy.clip_norm / mechanism_of(plan).grid.step >= 64 * (1 - 1e-12)


@pytest.mark.parametrize("name", ["digits-distributed-eps8", "fashion-distributed-eps3"])
def test_the_plans_that_ship_send_sixteen_bits_a_coordinate(name: str) -> None:
    given_tables = read_tables(EXPERIMENTS / f"{name}.toml")
    plan = make_plan(given_tables, Plan, count=count_parameters)
    assert plan.cell == ("record", "distributed")
    assert mechanism_of(plan).grid.ring == Ring(16)
    assert mechanism_of(plan).sensitivity(plan.parameters) <= 1.02 * plan.privacy.clip_norm
    assert mechanism_of(plan).cost() <= plan.privacy.epsilon


def fault(**changes: dict[str, Any]) -> str:
    with pytest.raises(PlanError) as caught:
        plan_of(**changes)  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == 2
    return caught.value.what


def test_too_coarse_a_ring_is_refused_and_a_wide_one_is_not() -> None:
    """A ring may be wider than it needs to be."""
    assert "a ring of 12 bits is too small" in fault(aggregation={"bits": 12})
    chosen = plan_of()
    assert mechanism_of(chosen).grid.ring == Ring(16)
    for bits in (21, 32, 64):
        wider = plan_of(aggregation={"bits": bits})
        assert (mechanism_of(wider).grid.ring, mechanism_of(wider).grid.bound) == (Ring(bits), Ring(bits).bound(1))
        assert mechanism_of(wider).grid.step <= mechanism_of(chosen).grid.step
        assert LEAST_VARIANCE <= place(wider).share_variance <= MOST_VARIANCE


def test_a_range_decides_the_grid() -> None:
    """A range that leaves too coarse a grid is refused."""
    plan = plan_of(aggregation={"range": 100.0, "bits": 16}, privacy={**GIVEN, "clip_norm": 0.5})
    assert (mechanism_of(plan).grid.range, mechanism_of(plan).grid.step) == (50.0, 50.0 / 32767)
    assert "a ring of 16 bits is too small" in fault(aggregation={"range": 600.0, "bits": 16})
    assert mechanism_of(plan_of(aggregation={"range": 600.0})).grid.ring == Ring(21)


def test_a_sum_that_wrapped_is_crowded_and_noise_alone_is_not() -> None:
    """Half of the coordinates twice the range: after the wrap they lie anywhere, a tenth of them at the ends."""
    mechanism = place(plan_of(privacy=GIVEN))
    bound, size, random = mechanism.grid.bound, mechanism.dimension, np.random.default_rng(1)
    noise = random.normal(0, mechanism.noise_std(size) / mechanism.grid.step, size).round().astype(np.int64)
    assert mechanism.crowded(Sum(noise)) == 0
    wrapped = noise + np.where(np.arange(size) % 2, random.integers(-2 * bound, 2 * bound, size), 0)
    turned = (wrapped + bound) % (2 * bound + 1) - bound
    assert mechanism.crowded(Sum(turned)) == pytest.approx(size / 20, rel=0.3)


def test_noise_that_no_share_can_be_made_of_is_refused() -> None:
    says = fault(privacy={"noise_multiplier": 1e4, "epsilon": 1e6})
    assert "noise multiplier 10000 does not fit the grid that noise is added on" in says
    assert place(plan_of(privacy={"noise_multiplier": 100.0})).share_variance <= MOST_VARIANCE
