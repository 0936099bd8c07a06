"""What a plan says of its sums: how large a coordinate may be, on what grid and in which ring they are added.

Of the sums that noise is shared inside, see test_distributed.py.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bract.privacy import Plan, PlanError, Ring, make_plan, mechanism_of
from bract.privacy.accept import MOST_STEPS, accept_plan
from bract.privacy.encoding.ring import LARGEST, WIDTHS
from bract.privacy.plan import thresholds
from bract.privacy.plan.plan import Aggregation, Cohort, Privacy, Training
from bract.privacy.plan.thresholds import COMPLETE, sparse_degree

GRID = 2**30

Strategy = st.SearchStrategy[Any]


def plans_with(noise: Strategy, bits: Strategy) -> st.SearchStrategy[Plan]:
    return st.builds(
        Plan,
        training=st.builds(
            Training,
            local_steps=st.integers(1, 100),
            batch_size=st.integers(1, 10**5),
            learning_rate=st.floats(1e-4, 1e4),
        ),
        cohort=st.builds(Cohort, size=st.integers(1, 10**6)),
        privacy=st.builds(
            Privacy,
            unit=st.sampled_from(["record", "client"]),
            noise=noise,
            clip_norm=st.floats(1e-6, 1e6),
            noise_multiplier=st.floats(0.1, 1e3),
        ),
        aggregation=st.builds(Aggregation, bits=bits, range=st.none() | st.floats(1e-3, 1e6)),
    )


plans = plans_with(st.sampled_from(["local", "central"]), st.none() | st.sampled_from(WIDTHS))


def fits(plan: Plan) -> bool:
    return mechanism_of(plan).grid.bound > 0 and mechanism_of(plan).grid.step <= mechanism_of(plan).grid.coarsest


def fault(**tables: dict[str, Any]) -> str:
    """Both lines of the fault that these tables give."""
    privacy = {"noise_multiplier": 20.0, **tables.pop("privacy", {})}
    with pytest.raises(PlanError) as caught:
        make_plan({"privacy": privacy, **tables}, Plan)
    assert len(str(caught.value).splitlines()) == 2
    return str(caught.value)


# The range of one device's vector


@pytest.mark.parametrize(
    ("size", "batch_size", "clip_norm", "expected"),
    [(11, 350, 1.0, 350 * 8 / 11), (4, 350, 1.0, 350.0), (8, 350, 2.0, 700.0), (1000, 10, 3.0, 3.0)],
)
def test_a_sum_has_room_for_eight_even_shares_of_the_batch(
    size: int, batch_size: int, clip_norm: float, expected: float
) -> None:
    """A device's sum has room for at least one record."""
    plan = Plan(
        cohort=Cohort(size=size), training=Training(batch_size=batch_size), privacy=Privacy(clip_norm=clip_norm)
    )
    assert mechanism_of(plan).grid.range == pytest.approx(expected, rel=1e-12)
    assert mechanism_of(plan).grid.coarsest == clip_norm / 2**15


def test_local_noise_has_room_for_the_steps_and_the_noise() -> None:
    """Where devices noise their own steps."""
    plan = Plan(
        training=Training(local_steps=4, batch_size=8, learning_rate=0.5),
        privacy=Privacy(noise="local", clip_norm=2.0, noise_multiplier=3.0),
    )
    assert mechanism_of(plan).grid.range == pytest.approx(2.0 * 0.5 * (4 * 4 + 8 * 3.0 * 2 / 8), rel=1e-12)
    assert mechanism_of(plan).grid.coarsest == pytest.approx(3.0 * 2.0 * 0.5 / 8 / 8, rel=1e-12)


def test_a_client_has_room_for_one_change_and_its_noise() -> None:
    """Where clients are the unit: one clipped change."""
    training = Training(local_steps=4, batch_size=8, learning_rate=0.5)
    privacy = {"unit": "client", "clip_norm": 2.0, "noise_multiplier": 3.0}
    central = Plan(training=training, privacy=Privacy(noise="central", **privacy))  # type: ignore[arg-type]
    assert (mechanism_of(central).grid.range, mechanism_of(central).grid.coarsest) == (2.0, 2.0 / 2**15)
    local = Plan(training=training, privacy=Privacy(noise="local", **privacy))  # type: ignore[arg-type]
    assert mechanism_of(local).grid.range == pytest.approx(2.0 * (1 + 8 * 3.0), rel=1e-12)
    assert mechanism_of(local).grid.coarsest == pytest.approx(3.0 * 2.0 / 8, rel=1e-12)


@pytest.mark.parametrize("noise", ["local", "central"])
def test_a_range_that_is_given_is_in_clip_norms(noise: Any) -> None:
    plan = Plan(aggregation=Aggregation(range=3.0), privacy=Privacy(noise=noise, clip_norm=0.5, noise_multiplier=9.0))
    assert mechanism_of(plan).grid.range == 1.5


# Grid, bound and ring


@given(plans)
def test_the_sum_of_the_whole_cohort_cannot_overflow_the_ring(plan: Plan) -> None:
    assert mechanism_of(plan).grid.bound * plan.cohort.size < 2 ** (mechanism_of(plan).grid.ring.bits - 1)
    room = mechanism_of(plan).grid.ring.bound(plan.cohort.size)
    assert mechanism_of(plan).grid.bound == room or (
        plan.privacy.noise == "central" and 0 < mechanism_of(plan).grid.bound < room
    )


@given(plans_with(st.just("central"), st.sampled_from([bits for bits in WIDTHS if bits < 64])))
def test_the_servers_noise_has_room_in_the_ring_beside_the_sum(plan: Plan) -> None:
    assume(mechanism_of(plan).grid.bound > 0)
    noise = 12 * mechanism_of(plan).noise_multiplier * plan.privacy.clip_norm / mechanism_of(plan).grid.step
    assert mechanism_of(plan).grid.range / mechanism_of(plan).grid.step * plan.cohort.size + noise <= 2 ** (
        mechanism_of(plan).grid.ring.bits - 1
    ) * (1 + 1e-12)


@given(plans)
def test_a_coordinate_within_the_range_does_not_saturate(plan: Plan) -> None:
    assume(mechanism_of(plan).grid.bound > 0)
    assert mechanism_of(plan).grid.range <= mechanism_of(plan).grid.bound * mechanism_of(plan).grid.step * (1 + 1e-12)


@given(plans)
def test_the_ring_is_the_given_or_the_narrowest_fine_enough(plan: Plan) -> None:
    """The narrowest one with a grid that is fine enough."""
    if plan.aggregation.bits is not None:
        assert mechanism_of(plan).grid.ring == Ring(plan.aggregation.bits)
        return
    for bits in WIDTHS[: WIDTHS.index(mechanism_of(plan).grid.ring.bits)]:
        assert not fits(plan.model_copy(update={"aggregation": Aggregation(bits=bits, range=plan.aggregation.range)}))
    assert fits(plan) or mechanism_of(plan).grid.ring.bits == 64


@given(plans)
def test_no_grid_is_finer_than_that_of_the_noise(plan: Plan) -> None:
    assume(mechanism_of(plan).grid.bound > 0)
    assert mechanism_of(plan).grid.step >= plan.privacy.clip_norm / GRID
    assert mechanism_of(plan).grid.noise_step * (1 + 1e-12) >= plan.privacy.clip_norm / GRID


@given(plans)
def test_central_noise_is_added_on_a_finer_grid_in_64_bits(plan: Plan) -> None:
    """On a refinement of the sum's grid."""
    assume(mechanism_of(plan).grid.bound > 0 and plan.privacy.noise == "central")
    assert mechanism_of(plan).grid.noise_step == mechanism_of(plan).grid.step / mechanism_of(plan).grid.refinement
    assert isinstance(mechanism_of(plan).grid.refinement, int)
    summed, most = (
        (mechanism_of(plan).grid.bound * plan.cohort.size, 2**62)
        if mechanism_of(plan).grid.ring.bits == 64
        else (2 ** mechanism_of(plan).grid.ring.bits, 2**61)
    )
    assert mechanism_of(plan).grid.refinement == 1 or mechanism_of(plan).grid.refinement * summed <= most
    assert (mechanism_of(plan).grid.refinement + 1) * summed > most or mechanism_of(plan).grid.step / (
        mechanism_of(plan).grid.refinement + 1
    ) < plan.privacy.clip_norm / GRID * (1 + 1e-12)


@given(plans)
def test_a_devices_own_noise_is_added_on_the_finest_grid(plan: Plan) -> None:
    assume(plan.privacy.noise == "local")
    assert mechanism_of(plan).grid.noise_step == plan.privacy.clip_norm / GRID
    assert mechanism_of(plan).grid.refinement == 1


def test_the_default_plan_by_hand() -> None:
    """A batch of 350: 254.5 clip norms in steps of at most 2^-15 take 23 bits, eleven devices four, the sign one."""
    plan = Plan()
    assert mechanism_of(plan).grid.ring == Ring(32)
    assert mechanism_of(plan).grid.step == (
        mechanism_of(plan).grid.range + 12 * mechanism_of(plan).noise_multiplier / 11
    ) / ((2**31 - 1) // 11)
    assert (
        mechanism_of(plan).grid.bound
        == math.ceil(mechanism_of(plan).grid.range / mechanism_of(plan).grid.step)
        < (2**31 - 1) // 11
    )
    assert mechanism_of(plan).grid.refinement == int(GRID * mechanism_of(plan).grid.step) == 1407


def test_a_width_of_64_bits_gives_the_finest_grid() -> None:
    plan = Plan(aggregation=Aggregation(bits=64))
    assert (mechanism_of(plan).grid.bound, mechanism_of(plan).grid.refinement) == (LARGEST, 1)
    assert mechanism_of(plan).grid.step == mechanism_of(plan).grid.noise_step == 1 / GRID


def test_a_narrower_range_takes_a_narrower_ring() -> None:
    privacy = Privacy(noise_multiplier=1e-3)
    made = [Plan(privacy=privacy, aggregation=Aggregation(range=r)) for r in (250.0, 2.0, 0.08, 0.001)]
    assert [mechanism_of(plan).grid.ring.bits for plan in made] == [32, 21, 16, 12]


def test_more_noise_of_the_server_takes_a_wider_ring() -> None:
    made = [
        Plan(privacy=Privacy(noise_multiplier=z), aggregation=Aggregation(range=0.08)) for z in (1e-3, 1.0, 300.0)
    ]
    assert [mechanism_of(plan).grid.ring.bits for plan in made] == [16, 21, 32]


# Faults


def test_a_ring_too_small_for_the_plan_is_refused() -> None:
    """The least that is not too small is accepted."""
    says = fault(aggregation={"bits": 21})
    assert "a ring of 21 bits is too small: 11 devices leave steps of 0.0029, the plan needs 3.05e-05" in says
    assert "raise aggregation.bits or leave it out" in says
    privacy = {"noise_multiplier": 20.0}
    assert mechanism_of(make_plan({"aggregation": {"bits": 32}, "privacy": privacy}, Plan)).grid.ring == Ring(32)


def test_a_ring_without_room_for_the_cohorts_sum_is_refused() -> None:
    """There is no grid at all."""
    assert "5000 devices leave steps of inf" in fault(
        aggregation={"bits": 12}, cohort={"size": 5000}, data={"clients": 5000}
    )


def test_a_range_so_wide_that_no_ring_is_fine_enough_is_refused() -> None:
    assert "a ring of 64 bits is too small" in fault(aggregation={"range": 1e12})


@pytest.mark.parametrize(("noise_multiplier", "fine"), [(2e-5, False), (4e-5, True)])
def test_noise_of_less_than_a_step_of_its_grid_is_refused(noise_multiplier: float, fine: bool) -> None:
    """The range leaves no finer grid than one of 2^-15 clip norms, and no room in 64 bits to refine it."""
    privacy = {"noise_multiplier": noise_multiplier, "epsilon": 1e10}
    cohort, data = {"size": 2**16, "rounds": 1}, {"clients": 2**16}
    tables = {"aggregation": {"range": 2.0**31}, "cohort": cohort, "data": data, "privacy": privacy}
    if fine:
        plan = make_plan(tables, Plan)
        assert mechanism_of(plan).grid.noise_step == mechanism_of(plan).grid.step == pytest.approx(2.0**-15)
        assert mechanism_of(plan).noise_std(1) / mechanism_of(plan).grid.noise_step >= 1
    else:
        assert "noise multiplier 2e-05 does not fit the grid that noise is added on" in fault(**tables)


@given(plans)
def test_a_ring_is_accepted_just_if_its_grid_is_fine_enough(plan: Plan) -> None:
    """Clients and budget are made to fit, so that nothing else can be at fault."""
    tables = plan.public()
    tables["data"]["clients"] = plan.cohort.size
    tables["cohort"] |= {"rounds": 1, "minimum": 1}
    tables["privacy"] |= {"epsilon": 1e15, "sampling_rate": 1.0, "allow_large_delta": True}
    assume(plan.cell != ("record", "central") or plan.training.local_steps == 1)
    assume(plan.sums <= MOST_STEPS)
    if not fits(plan):
        with pytest.raises(PlanError, match="is too small"):
            make_plan(tables, Plan)
        return
    made = make_plan(tables, Plan)
    assert accept_plan(made.offered()).grid.ring == mechanism_of(made).grid.ring == mechanism_of(plan).grid.ring
    assert math.isfinite(mechanism_of(made).grid.step)


def secure(size: int, **aggregation: Any) -> dict[str, Any]:
    """Tables of a plan with secure aggregation over so many devices."""
    cohort, data = {"size": size}, {"clients": size}
    return {"aggregation": {"protocol": "secagg", **aggregation}, "cohort": cohort, "data": data}


def made(tables: dict[str, Any]) -> Plan:
    return make_plan({"privacy": {"noise_multiplier": 60.0}, **tables}, Plan)


def test_a_plan_is_secure_or_malicious_only_if_it_says_so() -> None:
    assert not Plan().secure
    assert not Plan().malicious
    assert made(secure(3)).secure
    assert made(secure(3, mode="malicious-server")).malicious


def test_one_device_has_no_secure_aggregation_and_two_have() -> None:
    assert "cohort.size is 1, secure aggregation hides no sum of one" in fault(**secure(1))
    assert made(secure(2)).secure
    assert made({"cohort": {"size": 1}}).cohort.size == 1


def test_malicious_server_mode_takes_no_sparse_graph() -> None:
    assert made(secure(COMPLETE, mode="malicious-server")).malicious
    larger = COMPLETE + 1
    assert f"cohort.size is {larger}, aggregation.mode = malicious-server takes at most {COMPLETE}" in fault(
        **secure(larger, mode="malicious-server")
    )
    assert made(secure(larger)).secure
    assert not made({**secure(larger, mode="malicious-server"), "aggregation": {"mode": "malicious-server"}}).secure


def test_shares_that_no_graph_withstands_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """None with as many neighbours as a device may have; with the real limit all plans that may be have a graph."""
    shares = {"colluders": 0.25, "dropouts": 0.25}
    assert made(secure(COMPLETE + 44, **shares)).secure
    sparse_degree.cache_clear()
    monkeypatch.setattr(thresholds, "MOST_NEIGHBOURS", 32)
    says = fault(**secure(COMPLETE + 44, **shares))
    assert "aggregation.colluders 0.25 and dropouts 0.25 leave no safe graph" in says
    assert made(secure(COMPLETE, **shares)).secure
    sparse_degree.cache_clear()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("protocol", "plain"),
        ("mode", "malicious"),
        ("key_exchange", "x448"),
        ("colluders", 0.5),
        ("colluders", -0.1),
        ("dropouts", 0.5),
        ("deadline", 0.0),
        ("bits", 8),
        ("bits", 63),
        ("range", 0.0),
        ("range", math.inf),
    ],
)
def test_an_unknown_value_of_the_aggregation_is_refused(key: str, value: Any) -> None:
    assert f"aggregation.{key} must be" in fault(aggregation={key: value})


def test_a_grid_that_is_just_fine_enough_is_not_refused() -> None:
    """The ring is chosen by the comparison that the plan is then checked by: another differs in the last bit."""
    tables = {
        "data": {"clients": 1000},
        "cohort": {"rounds": 1, "size": 1000},
        "privacy": {
            "unit": "client",
            "noise": "local",
            "noise_multiplier": 3.56,
            "clip_norm": 2.03,
            "sampling_rate": 1.0,
            "epsilon": 1e6,
        },
        "aggregation": {"range": 466.36},
    }
    mechanism = mechanism_of(make_plan(tables, Plan))
    assert mechanism.grid.step <= mechanism.grid.coarsest
